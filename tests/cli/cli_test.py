"""Runs the program as its users do: flags, pipes, wrong arguments. cli_test.py PROGRAM MODEL"""

import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

from program import GREEDY, MODEL, PROGRAM, environment, generate, long_text, output_of, run

ASSETS = pathlib.Path(__file__).parents[2] / "assets"
JSON_KEYS = set(
    "text prompt_tokens completion_tokens finish_reason forwards rows_computed tokens_per_forward"
    " time_to_first_token_ms prefill_tokens_per_s decode_tokens_per_s kv_bytes kv_peak_bytes seed".split()
)
STORY = "Write a story about a lighthouse keeper."
PAGE_BYTES = 64 * 3 * 64 * 2 * 2  # 64 keys of 3 heads of 64 in f16, K and V
LAYERS = 30


@functools.cache
def greedy_story() -> dict:
    return generate(STORY, *GREEDY, "--max-tokens", 40)


class Generate(unittest.TestCase):
    def test_json_has_its_keys_and_no_other(self):
        result = greedy_story()
        self.assertEqual(set(result), JSON_KEYS)
        self.assertEqual((result["completion_tokens"], result["finish_reason"]), (40, "length"))
        self.assertEqual(result["seed"], 0)
        tokens = result["prompt_tokens"] + 39
        self.assertEqual(result["kv_bytes"], -(-tokens // 64) * LAYERS * PAGE_BYTES)
        self.assertEqual(result["kv_peak_bytes"], result["kv_bytes"])
        for key in ("time_to_first_token_ms", "prefill_tokens_per_s", "decode_tokens_per_s"):
            self.assertGreater(result[key], 0)

    def test_text_is_streamed_and_equals_the_json_text(self):
        arguments = [PROGRAM, "generate", STORY, *GREEDY, "--max-tokens", "40"]
        with subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
        ) as process:
            pieces = []
            while piece := os.read(process.stdout.fileno(), 65536):
                pieces.append(piece)
            report = process.stderr.read().decode()
        self.assertEqual(process.returncode, 0)
        self.assertGreater(len(pieces), 5)
        self.assertEqual(b"".join(pieces).decode(), greedy_story()["text"] + "\n")
        self.assertRegex(report, r"^\[\d+ prompt tokens, 40 new, first after .* KV .* \(peak [^,]*\)\]\n$")

    def test_prompt_from_dash_and_from_a_pipe(self):
        text = greedy_story()["text"]
        self.assertEqual(generate("-", *GREEDY, "--max-tokens", 40, stdin=STORY)["text"], text)
        self.assertEqual(generate(*GREEDY, "--max-tokens", 40, stdin=STORY)["text"], text)

    def test_a_seed_decides_the_text(self):
        first, again, other = (generate(STORY, "--seed", seed, "--max-tokens", 24) for seed in (7, 7, 8))
        self.assertEqual(first["text"], again["text"])
        self.assertEqual((first["seed"], other["seed"]), (7, 8))
        self.assertNotEqual(first["text"], other["text"])

    def test_threads_change_nothing(self):
        one, three = (
            generate(STORY, *GREEDY, "--max-tokens", 40, "--threads", n, "--logprobs", 2) for n in (1, 3)
        )
        self.assertEqual(one["text"], greedy_story()["text"])
        self.assertEqual(one["logprobs"], three["logprobs"])
        self.assertEqual(set(one), JSON_KEYS | {"logprobs"})
        for token in one["logprobs"]:
            self.assertEqual(len(token["top_logprobs"]), 2)
            self.assertEqual(token["top_logprobs"][0], {key: token[key] for key in ("id", "token", "logprob")})

    def test_stop_strings_end_the_text_before_them(self):
        text = greedy_story()["text"]
        stop, later = text[30:36], text[50:56]
        result = generate(STORY, *GREEDY, "--max-tokens", 40, "--stop", later, "--stop", stop)
        self.assertEqual((result["text"], result["finish_reason"]), (text[: text.index(stop)], "stop"))
        self.assertLess(result["completion_tokens"], 40)

    def test_the_model_ends_its_answer(self):
        result = generate("Say hello.", *GREEDY, "--max-tokens", 200)
        self.assertEqual(result["finish_reason"], "stop")
        self.assertNotIn("<|im_end|>", result["text"])

    def test_environment_variables_are_flags(self):
        result = run("generate", STORY, PERPEND_TEMPERATURE="0", PERPEND_MAX_TOKENS="40", PERPEND_JSON="1")
        self.assertEqual(json.loads(result.stdout)["text"], greedy_story()["text"])
        result = generate(STORY, *GREEDY, "--max-tokens", 3, PERPEND_MAX_TOKENS="40")
        self.assertEqual(result["completion_tokens"], 3)

    def test_a_reader_that_leaves_ends_the_work(self):
        arguments = [PROGRAM, "generate", STORY, "--raw", *GREEDY, "--max-tokens", "5000"]
        with subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
        ) as process:
            os.read(process.stdout.fileno(), 1)
            process.stdout.close()
            self.assertEqual(process.wait(timeout=60), 0)

    def test_layer_masks_save_keys(self):
        layers = "0-9,20-29: causal & (sink(64) | window(448)); rest: causal"
        result = generate("-", "--raw", *GREEDY, "--max-tokens", 2, "--layers", layers, stdin=long_text(2100))
        self.assertGreater(result["prompt_tokens"], 2000)
        pages = -(-(result["prompt_tokens"] + 1) // 64)
        plain = LAYERS * pages * PAGE_BYTES  # as the first test finds it for a causal mask
        # One page of sinks and at most nine that the window reaches, in 20 of the layers.
        self.assertLessEqual(result["kv_bytes"], (10 * pages + 20 * 10) * PAGE_BYTES)
        self.assertGreaterEqual(result["kv_bytes"], (10 * pages + 20 * 8) * PAGE_BYTES)
        self.assertLess(result["kv_peak_bytes"], plain)

    def test_the_report_tells_the_saved_bytes(self):
        result = run(
            "generate", "-", "--raw", *GREEDY, "--max-tokens", 2, "--prefill-chunk", 64,
            "--layers", "all: causal & window(64)", stdin=long_text(400),
        )  # fmt: skip
        tokens = int(re.search(r"(\d+) prompt tokens", result.stderr)[1]) + 1
        held, peak, saved = (float(x) for x in re.search(r"KV (.*) MiB \(peak (.*) MiB, (.*) MiB saved", result.stderr).groups())
        self.assertAlmostEqual(held + saved, -(-tokens // 64) * LAYERS * PAGE_BYTES / 2**20, delta=0.11)
        self.assertLess(held, saved)
        self.assertLess(peak, held + saved)


class LongGen(unittest.TestCase):
    PRESET = "longgen-as(n_full=10, window=3)"

    def test_a_preset_saves_keys(self):
        result = generate("-", "--raw", *GREEDY, "--max-tokens", 2, "--preset", self.PRESET, stdin=long_text(800))
        pages = -(-(result["prompt_tokens"] + 1) // 64)
        # A sink and a window of three blocks, the last one begun, in 20 of 30 layers.
        self.assertEqual(result["kv_bytes"], (10 * pages + 20 * 4) * PAGE_BYTES)
        same = generate(
            "-", "--raw", *GREEDY, "--max-tokens", 2, "--layers", "10-19: causal; rest: longgen_sink(64, 1, 3)",
            stdin=long_text(800),
        )  # fmt: skip
        self.assertEqual(same["text"], result["text"])
        self.assertEqual(same["kv_bytes"], result["kv_bytes"])

    def test_a_preset_scores_text(self):
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write(long_text(500))
            file.flush()
            scores = [
                json.loads(output_of("perplexity", "--text", file.name, "--json", *flags))["perplexity"]
                for flags in ([], ["--preset", "longgen-as"], ["--preset", "longgen-as(window=1)"], ["--rope-base", "5e6"])
            ]
        # The text fits into the default window, so that every key is kept.
        self.assertEqual(scores[0], scores[1])
        self.assertEqual(len(set(scores)), 3)

    def test_plan(self):
        flags = ["plan", "--model", "llama2-7b", "--preset", "longgen-as", "--context", 131072]
        plan = json.loads(output_of(*flags, "--json"))
        self.assertEqual((plan["parameters"], plan["planned"]["kv_bytes"]), (6738415616, 24.625 * 2**30))
        self.assertEqual([layer["layers"] for layer in plan["layers"]], ["0-9,22-31", "10-21"])
        self.assertEqual([layer["live_tiles"] for layer in plan["layers"]], [65040, 2098176])
        for key, bound in [("prefill_bound", 1.79), ("training_bound", 1.84), ("decode_bound", 2.06)]:
            self.assertAlmostEqual(plan[key], bound, delta=6e-3)
        text = output_of(*flags)
        for line in (r"KV +24\.6 GiB +64\.0 GiB +61\.52 % less", r"prefill .* 1\.79 x", r"decode +11\.92 ms +24\.54 ms +2\.06 x"):
            self.assertRegex(text, line)
        batch = json.loads(output_of(*flags, "--json", "--batch", 4))
        self.assertEqual(batch["planned"]["kv_bytes"], 4 * plan["planned"]["kv_bytes"])
        # A checkpoint is planned by its configuration alone.
        own = json.loads(output_of("plan", "--model", MODEL, "--json", "--layers", "all: causal"))
        self.assertEqual((own["parameters"], own["kv_cut"]), (134515008, 0))


class Help(unittest.TestCase):
    def test_every_command_explains_itself(self):
        commands = re.findall(r"(?m)^  (\w+) {3,}\S", output_of("--help").split("Subcommands:")[1])
        self.assertLessEqual({"generate", "chat", "inspect", "mask", "perplexity"}, set(commands))
        for command in [[name] for name in commands if name not in {"bench", "mask"}] + [
            ["bench", "attention"],
            ["bench", "schedule"],
            ["mask", "explain"],
            ["mask", "list"],
            ["mask", "plan"],
            ["mask", "show"],
        ]:
            text = output_of(*command, "--help")
            self.assertIn("Examples:\n  perpend " + " ".join(command), text)
        self.assertIn("PERPEND_MAX_TOKENS", output_of("generate", "-h"))
        self.assertRegex(output_of("--version"), r"\Aperpend \d+\.\d+\.\d+\n\Z")


class ShippedAdapters(unittest.TestCase):
    """Names of models that are the default one with an adapter."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = {"PERPEND_HOME": folder.name, "PERPEND_MODEL": ""}
        base = pathlib.Path(folder.name) / "models/smollm2-135m-instruct-q4_1/SmolLM2-135M-Instruct.Q4_1.gguf"
        base.parent.mkdir(parents=True)
        base.symlink_to(MODEL)

    def test_a_name_is_a_model_and_an_adapter(self):
        few = ["What is rain?", *GREEDY, "--max-tokens", 6]
        named = generate(*few, "--model", "debian-ranker", **self.home)
        self.assertEqual(named["text"], generate(*few, "--adapter", ASSETS / "debian-ranker")["text"])
        twice = run("generate", "x", "--model", "debian-ranker", "--adapter", ASSETS / "debian-ranker", **self.home)
        self.assertEqual(twice.returncode, 2)
        self.assertIn("--adapter: the model debian-ranker is an adapter itself", twice.stderr)

    def test_the_diffusion_model_fills_blocks(self):
        command = ["Write each of these, one a line:\n42000 m in km\n2004-11-05 as words", *GREEDY, "--max-tokens", 32, "--model", "smollm2-diffusion"]
        files = list((ASSETS / "smollm2-diffusion").iterdir())
        self.assertLessEqual(max(file.stat().st_size for file in files), 10 * 2**20)
        self.assertLessEqual(sum(file.stat().st_size for file in files), 20 * 2**20)
        result = generate(*command, **self.home)
        self.assertGreater(result["tokens_per_forward"], 1)
        self.assertNotIn("<empty_output>", result["text"])
        shown = run("generate", *command, "--show-denoising", **self.home)
        self.assertEqual(shown.stdout.strip(), result["text"].strip())
        self.assertGreater(shown.stderr.count("\n"), 2)


class Mistakes(unittest.TestCase):
    """Each is one line on standard error and exit code 2."""

    def check(self, expected: str, *arguments: object, **more: str):
        result = run(*arguments, **more)
        self.assertEqual((result.returncode, result.stdout), (2, ""), result)
        self.assertRegex(result.stderr, r"\Aperpend: [^\n]+\n\Z")
        self.assertIn(expected, result.stderr)

    def test_models(self):
        self.check("/no/such/file", "generate", "x", "--model", "/no/such/file")
        self.check("magic: expected 'GGUF'", "inspect", PROGRAM)
        self.check("not fetched yet", "inspect", "smollm2-135m-instruct", PERPEND_HOME="/no/such/folder")
        self.check("/no/such/file", "inspect", PERPEND_MODEL="/no/such/file")

    def test_masks(self):
        self.check("column 10: unknown word 'windw'", "mask", "show", "causal & windw(3)", "--q", 8)
        self.check("column 15: unknown word 'causl'", "generate", "x", "--layers", "0-9: causal & causl")
        self.check("layer 30 does not exist", "generate", "x", "--layers", "2-30: causal")
        self.check("layer 3 has no mask", "generate", "x", "--layers", "0-2: causal")
        for flag, value in [("--q", 0), ("--q", 2**62), ("--k", -1), ("--q-offset", -1), ("--key-bytes", 0)]:
            sizes = {"--q": 8} | {flag: value}
            self.check(flag, "mask", "show", "causal", *(word for size in sizes.items() for word in size))
        self.check("the label 'doc' is not bound", "mask", "show", "same(doc)", "--q", 8)
        doc = ["mask", "show", "same(doc)", "--q", 8, "--labels"]
        self.check("given for 7 positions, the sequence has 8", *doc, "doc = segments(7)")
        self.check("bindings: column 7: unknown label 'segmnts'", *doc, "doc = segmnts(8)")
        self.check("column 1: in frames(...): frames(f, h, w) needs h", "mask", "explain", "frames(3)")
        self.check("bindings: column 22: 'doc' is bound already", *doc, "doc = segments(4,4); doc = segments(8)")
        self.check("column 1: unexpected 'ü', expected a mask", "mask", "show", "ünicode", "--q", 8)
        self.check("too large to draw", "mask", "show", "causal", "--q", 2**29)
        for flag, value in [("--heads", 10**9), ("--kv-heads", -1), ("--k", -7), ("--q-offset", 2**62)]:
            self.check(flag, "mask", "plan", "causal", "--q", 8, flag, value)
        for cap in ("nan", "inf", "-1"):
            self.check("--soft-cap must be finite", "verify", "causal", "--q", 8, "--soft-cap", cap)
        self.check("--device must be gpu or cpu (tpu)", "mask", "plan", "causal", "--q", 8, "--device", "tpu")
        self.check("--head-dim must be in [1, 256] (0)", "mask", "plan", "causal", "--q", 8, "--head-dim", 0)
        self.check("multiple of key/value heads", "mask", "plan", "causal", "--q", 8, "--heads", 3, "--kv-heads", 2)
        self.check("/no/such/folder/x.png", "mask", "show", "causal", "--q", 8, "--png", "/no/such/folder/x.png")

    def test_presets(self):
        both = ["--preset", "longgen-as", "--layers", "all: causal"]
        for command in (["generate", "x"], ["perplexity", "--text", __file__], ["plan"]):
            self.check("--preset and --layers exclude each other", *command, *both)
        self.check("preset: column 1: expected longgen-as or longgen-bs, found 'longgen'", "plan", "--preset", "longgen")
        self.check("column 12: expected one of block, n_full", "generate", "x", "--preset", "longgen-as(w=3)")
        self.check("longgen.n_full: expected at most 30 (layers), found 31", "plan", "--preset", "longgen-as(n_full=31)")
        self.check("rope-base: expected a positive number", "generate", "x", "--rope-base", "-2")
        self.check("llama2-7b, llama2-70b", "plan", "--model", "/no/such/file")
        self.check("batch: expected 1 to", "plan", "--batch", 0)
        self.check("--prefix-cache: expected 0 to", "chat", "--prefix-cache", "-1")

    def test_options(self):
        self.check("temperature must be in [0, 100] (nan)", "generate", "x", "--temperature", "nan")
        self.check("top-p", "generate", "x", "--top-p", "1.5")
        self.check("--temperature", "generate", "x", "--temperature", "warm")
        self.check("--temperature", "generate", "x", PERPEND_TEMPERATURE="warm")
        self.check("--seed: expected an integer from 0", "generate", "x", "--seed", "-1")
        self.check("--max-tokens: expected an integer", "generate", "x", "--max-tokens", "9" * 20)
        self.check("max-tokens must be positive", "generate", "x", "--max-tokens", 0)
        self.check("threads", "generate", "x", "--threads", "-1")
        self.check("f16", "generate", "x", "--precision", "f16")
        self.check("precision bf16: needs a GPU", "generate", "x", "--precision", "bf16", "--device", "cpu")
        self.check("expected cpu, cuda, cuda:N or auto (tpu)", "generate", "x", "--device", "tpu")
        self.check("expected cpu, cuda, cuda:N or auto (cuda:x)", "perplexity", "--text", "x", PERPEND_DEVICE="cuda:x")
        # No machine has that many, and builds without CUDA have none.
        self.check("device cuda:99: this ", "chat", "--device", "cuda:99")
        self.check("--chat and --raw", "generate", "x", "--chat", "--raw")
        self.check("--system", "generate", "x", "--raw", "--system", "y")

    def test_commands(self):
        self.check("'--bogus'", "generate", "x", "--bogus")
        self.check("'bogus'", "bogus")
        self.check("'bogus'", "mask", "bogus")
        self.check("subcommand is required")
        self.check("--q is required", "mask", "show", "causal")
        self.check("'two lines'", "generate", "x", "two\nlines")

    def test_texts(self):
        self.check("standard input is empty", "generate")
        self.check("prompt: it is empty", "generate", "", stdin="a prompt of its own")
        self.check("do not fit the model's context of 8192", "generate", "-", "--raw", stdin=long_text(9000))
        self.check("/no/such/file", "perplexity", "--text", "/no/such/file")
        self.check("window must be in [2, 8192] (1)", "perplexity", "--text", __file__, "--window", 1)


class Output(unittest.TestCase):
    """What does not arrive is an error, unless nobody wants it."""

    def status(self, command: str) -> tuple[int, str]:
        result = subprocess.run(["bash", "-c", command, PROGRAM], stderr=subprocess.PIPE, text=True, env=environment())
        return result.returncode, result.stderr

    def test_that_can_not_be_written(self):
        for command in ("mask list", "mask plan causal --q 64 --json", "--help"):
            for where in ("/dev/full", "&-"):
                with self.subTest(command=command, where=where):
                    found = self.status(f'"$0" {command} >{where}')
                    self.assertEqual(found, (2, "perpend: standard output could not be written (disk full?)\n"))
        found = self.status('"$0" mask show causal --q 8 --png /dev/full >/dev/null')
        self.assertEqual(found, (2, "perpend: /dev/full: could not be written (disk full?)\n"))

    def test_that_nobody_reads(self):
        self.assertEqual(self.status('set -o pipefail; "$0" mask list | head -n 1 >/dev/null'), (0, ""))


class Inspect(unittest.TestCase):
    def test_json_and_table_agree(self):
        facts = json.loads(output_of("inspect", MODEL, "--json"))
        self.assertEqual(facts, json.loads(output_of("inspect", "--json")))  # PERPEND_MODEL
        self.assertEqual((facts["parameters"], len(facts["tensors"])), (134515008, 272))
        self.assertEqual(facts["config"]["num_layers"], LAYERS)
        self.assertIn({"id": 2, "token": "<|im_end|>"}, facts["tokenizer"]["stop_tokens"])
        self.assertEqual(sum(facts["format_bytes"].values()), sum(t["bytes"] for t in facts["tensors"]))
        table = output_of("inspect", "--tensors")
        for key, value in facts["config"].items():
            shown = value if isinstance(value, str) else json.dumps(value)
            self.assertRegex(table, rf"(?m)^{key} +{re.escape(shown)}$")
        for tensor in facts["tensors"]:
            shape = json.dumps(tensor["shape"], separators=(",", ":"))
            self.assertRegex(table, rf"(?m)^ +{re.escape(tensor['name'])} +{tensor['format']} +{re.escape(shape)} ")
        self.assertLess(len(output_of("inspect").splitlines()), 30)


class Perplexity(unittest.TestCase):
    def test_json(self):
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write("The sun rises in the east and sets in the west. " * 4)
            file.flush()
            result = json.loads(output_of("perplexity", "--text", file.name, "--json"))
            self.assertEqual(set(result), {"tokens", "perplexity"})
            self.assertTrue(1 < result["perplexity"] < 5, result)
            table = output_of("perplexity", "--text", file.name)
            self.assertRegex(table, rf"(?m)^tokens +{result['tokens']}$")
            split = json.loads(output_of("perplexity", "--text", file.name, "--json", "--window", 8))
            self.assertGreater(split["perplexity"], 2 * result["perplexity"])
            both = json.loads(output_of("perplexity", "--text", file.name, "--json", "--against-f32"))
        self.assertEqual(both["perplexity"], result["perplexity"])
        self.assertEqual(set(both), {"tokens", "perplexity", "perplexity_f32", "top1_agreement", "mean_kl"})
        self.assertTrue(0 <= both["mean_kl"] < 0.05 and both["top1_agreement"] > 0.9, both)


unittest.main(argv=sys.argv[:1] + sys.argv[3:])
