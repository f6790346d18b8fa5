"""`perpend generate` with a tiny random diffusion model: JSON, trace, views, comparisons, wrong use.

diffusion_command_test.py PROGRAM
"""

import json
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "models"))
sys.path.insert(1, str(pathlib.Path(__file__).resolve().parent.parent / "io"))
from gguf_vocabularies import write_pieces  # noqa: E402
from PIL import Image  # noqa: E402
from png_rows import png_chunks  # noqa: E402
from program import PROGRAM, environment, run  # noqa: E402
from terminal import Terminal  # noqa: E402
from tiny_models import TinyModel  # noqa: E402
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers  # noqa: E402

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MASK_TOKEN, MASK_ID = "|<MASK>|", 259
TEMPLATE = "{% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}"
EXACT = ["--precision", "f32", "--threads", "1", "--temperature", "0"]


def byte_tokenizer() -> Tokenizer:
    """A token a byte, three that are special and a mask token that is not."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(MASK_TOKEN, special=False)])
    assert tokenizer.token_to_id(MASK_TOKEN) == MASK_ID
    return tokenizer


def write_models(folder: pathlib.Path) -> None:
    """The same weights as a diffusion model and as an autoregressive one."""
    for name, architecture in (("diffusion", "Fast_dLLM_Qwen"), ("plain", "qwen2")):
        model = TinyModel(7, architecture, biases=True, rows=264)
        model.config |= {"bd_size": 8, "use_sliding_window": False}
        model.tensors["lm_head.weight"][MASK_ID] = 0
        model.tensors["lm_head.weight"][256:259] = 0
        model.save(folder / name, byte_tokenizer(), tokenizer_config={"chat_template": TEMPLATE, "eos_token": "<|im_end|>"})


def write_nbdiff(folder: pathlib.Path) -> None:
    """A folder as NBDiff's, with SentencePiece's tokenizer.model and tokens that a slow tokenizer adds."""
    model = TinyModel(8, "PanguEmbedded", biases=True, rows=264)
    model.tensors["lm_head.weight"][260:] = 0
    model.save(folder, byte_tokenizer())
    (folder / "tokenizer.json").unlink()
    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + ["[unused9]"]
    write_pieces(folder / "tokenizer.model", pieces)
    added = {"259": {"content": "[unused9]", "special": True}, "260": {"content": "[unused0]", "special": True}}
    added |= {"261": {"content": "[unused10]", "special": True}}
    config = {"added_tokens_decoder": added, "eos_token": "[unused10]", "bos_token": "<s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


class GenerateTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        write_models(cls.folder)
        write_nbdiff(cls.folder / "nbdiff")

    def command(self, *arguments: object, model: str = "diffusion") -> list[object]:
        return ["generate", *arguments, "--model", self.folder / model, *EXACT]

    def generate(self, *arguments: object, model: str = "diffusion") -> dict:
        result = run(*self.command(*arguments, "--json", model=model))
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def test_json_and_trace(self):
        path = self.folder / "trace.json"
        result = self.generate("one two", "--raw", "--max-tokens", 29, "--threshold", 0.05, "--trace", path)
        self.assertEqual(result["completion_tokens"], 29)
        self.assertLess(result["forwards"], 29)
        self.assertAlmostEqual(result["tokens_per_forward"], 29 / result["forwards"])
        trace = json.loads(path.read_text())
        self.assertEqual((trace["mask_token_id"], trace["block_size"], trace["prompt_tokens"]), (MASK_ID, 8, 7))
        self.assertEqual(trace["text"], result["text"])
        filled = {token["position"]: token["id"] for step in trace["steps"] for token in step["filled"]}
        self.assertEqual([filled[7 + i] for i in range(29)], trace["tokens"])
        self.assertNotIn(MASK_ID, filled.values())
        # The prompt is shorter than a block, so that no pass is over it alone.
        self.assertEqual(len(trace["steps"]), result["forwards"])
        for step in trace["steps"]:
            self.assertTrue(step["kind"] == "context" or step["rows"] == step["block"])

    def test_a_block_of_one_is_autoregression(self):
        arguments = ["the same weights", "--raw", "--max-tokens", 40]
        by_tokens = self.generate(*arguments, "--block-size", 1)
        plain = self.generate(*arguments, model="plain")
        self.assertEqual(by_tokens["text"], plain["text"])
        self.assertEqual((by_tokens["forwards"], plain["forwards"], plain["tokens_per_forward"]), (40, 40, 1))

    def test_caches_that_are_exact(self):
        arguments = ["caches", "--raw", "--max-tokens", 30, "--threshold", 0.05]
        exact = self.generate(*arguments, "--cache", "none")
        self.assertEqual(self.generate(*arguments)["text"], exact["text"])
        whole_blocks = ["--cache", "sub-block", "--sub-block", 8]
        self.assertEqual(self.generate(*arguments, *whole_blocks)["text"], exact["text"])

    def test_a_mask_token_in_a_prompt_is_text(self):
        for form in ("--raw", "--chat"):
            with self.subTest(form):
                masked = self.generate(f"a{MASK_TOKEN}b", form, "--max-tokens", 1)
                letters = self.generate("a12345678b", form, "--max-tokens", 1)
                self.assertEqual(masked["prompt_tokens"], letters["prompt_tokens"])

    def test_nbdiff(self):
        path = self.folder / "nbdiff.json"
        arguments = ["ab [unused0] c", "--raw", "--max-tokens", 40, "--threshold", 0.05]
        result = self.generate(*arguments, "--trace", path, model="nbdiff")
        # A mask token that is spelled is text, a byte each.
        letters = self.generate("ab 123456789 c", "--raw", "--max-tokens", 1, model="nbdiff")
        self.assertEqual(result["prompt_tokens"], letters["prompt_tokens"])
        trace = json.loads(path.read_text())
        self.assertEqual((trace["mask_token_id"], trace["block_size"]), (260, 32))
        # Blocks begin where the prompt ends, after a pass over all that is final.
        self.assertEqual(trace["steps"][0]["kind"], "context")
        begin = result["prompt_tokens"]
        self.assertEqual(trace["steps"][1]["block"], [begin, begin + 32])
        self.assertEqual(self.generate(*arguments, "--cache", "none", model="nbdiff")["text"], result["text"])

    def test_views(self):
        arguments = ["show me", "--raw", "--max-tokens", 24]
        text = self.generate(*arguments)["text"]
        shown = run(*self.command(*arguments, "--show-denoising"))
        self.assertEqual(shown.stdout, text + "\n")
        lines = [line for line in shown.stderr.splitlines() if line.startswith("step ")]
        self.assertRegex(lines[0], r"^step 1: denoise rows 0-8 of 8 keys: 7=.* \(\d\.\d\d\)$")
        command = [PROGRAM, *map(str, self.command(*arguments, "--show-denoising"))]
        with Terminal(command, environment()) as terminal:
            seen = terminal.expect(r"tokens/s[^\]]*\]")
            self.assertEqual(terminal.close(), 0)
        self.assertIn("\x1b[2m\u00b7", seen)
        self.assertIn("\x1b[38;5;", seen)

    def test_replay(self):
        trace, replay = self.folder / "replay.json", self.folder / "replay.png"
        arguments = ["show me", "--raw", "--max-tokens", 24, "--threshold", 0.05]
        self.generate(*arguments, "--trace", trace, "--replay", replay)
        num_steps = len(json.loads(trace.read_text())["steps"])
        chunks = png_chunks(replay.read_bytes())
        kinds = [kind for kind, _ in chunks]
        self.assertEqual((kinds[:4], kinds[-1]), ([b"IHDR", b"acTL", b"fcTL", b"IDAT"], b"IEND"))
        numbers = [int.from_bytes(body[:4], "big") for kind, body in chunks if kind in (b"fcTL", b"fdAT")]
        self.assertEqual(numbers, list(range(len(numbers))))
        frames, delays = [], []
        with Image.open(replay) as animation:
            self.assertEqual((animation.n_frames, animation.info["loop"]), (num_steps + 2, 0))
            for index in range(animation.n_frames):
                animation.seek(index)
                frames.append(animation.convert("RGB"))
                delays.append(animation.info["duration"])
        self.assertEqual(delays, [600] + [160] * num_steps + [4000])
        self.assertEqual({frame.size for frame in frames}, {frames[0].size})
        # Below status and prompt: colours tell how sure the model was, and in the end there are none.
        coloured = [self.colours_below(frame, 100) for frame in frames]
        self.assertEqual((coloured[0], coloured[-1]), (set(), set()))
        self.assertTrue(all(coloured[1:-1]))
        self.assertEqual(len({frame.tobytes() for frame in frames}), len(frames))
        # A path that can not be written leaves nothing behind.
        result = run(*self.command(*arguments, "--replay", self.folder / "none" / "a.png"))
        self.assertIn("none/a.png", result.stderr)

    def colours_below(self, frame: Image.Image, top: int) -> set[tuple[int, ...]]:
        """Pixels in full colour, which text and dots in grey have not."""
        pixels = frame.crop((0, top, *frame.size)).getcolors(1 << 24)
        return {pixel for _, pixel in pixels if max(pixel) - min(pixel) > 100}

    def traced(self, *arguments: object, model: str = "diffusion") -> tuple[dict, dict]:
        path = self.folder / "traced.json"
        result = self.generate(*arguments, "--trace", path, model=model)
        return result, json.loads(path.read_text())

    def check_comparison(self, compared: list[object], reference: list[object], kind: str, model: str = "diffusion"):
        """Against both answers by themselves, compared once more."""
        found = self.generate(*compared, "--compare", kind, model=model)
        runs = [self.traced(*arguments, model=model) for arguments in (compared, reference)]
        for name, (result, _) in zip(("compared", "reference"), runs):
            for key in ("text", "forwards", "rows_computed", "completion_tokens"):
                self.assertEqual(found[name][key], result[key], (name, key))
        tokens = [trace["tokens"] for _, trace in runs]
        steps = [
            [{(t["position"], t["id"]) for t in step["filled"]} for step in trace["steps"] if step["filled"]]
            for _, trace in runs
        ]
        same = [a == b for a, b in zip(*tokens)]
        agreement = found["agreement"]
        self.assertEqual((agreement["equal"], agreement["tokens"]), (sum(same), max(map(len, tokens))))
        self.assertAlmostEqual(agreement["share"], sum(same) / max(map(len, tokens)))
        for name, (a, b) in (("first_token", tokens), ("first_step", steps)):
            differ = [x != y for x, y in zip(a, b)] + [True]
            self.assertEqual(agreement[name], None if a == b else differ.index(True), name)
        return agreement

    def test_comparisons_with_exact_decoding(self):
        arguments = ["how far do they agree", "--raw", "--max-tokens", 60]
        slow = [*arguments, "--sub-block", 4, "--threshold", 1]
        agreement = self.check_comparison([*slow, "--cache", "sub-block"], slow, "exact")
        self.assertLess(agreement["share"], 1)
        self.assertGreater(agreement["first_step"], 0)
        fast = [*arguments, "--threshold", 0.05]
        agreement = self.check_comparison(fast, [*arguments, "--unmask", "count"], "sequential")
        self.assertEqual(agreement["first_step"], 0)
        full = ["--diffusion", json.dumps({"attention": "full", "block_size": 8, "mask_token_id": MASK_ID})]
        window = [*fast, *full, "--fill-window", 16]
        self.check_comparison([*fast, *full, "--cache", "elastic"], window, "exact", model="plain")

    def test_elastic_tells_where_it_refreshed(self):
        full = ["--diffusion", json.dumps({"attention": "full", "block_size": 8, "mask_token_id": MASK_ID})]
        arguments = ["seldom", "--raw", "--max-tokens", 40, "--threshold", 0.05, *full, "--cache", "elastic"]
        layers = {gamma: self.generate(*arguments, "--gamma", gamma, model="plain")["refreshed_from"] for gamma in (0, 2)}
        for gamma, behind in ((0, 2), (2, 1)):  # of two layers
            self.assertEqual(layers[gamma], [0] + [behind] * (len(layers[gamma]) - 1), gamma)
            self.assertGreater(len(layers[gamma]), 1)
        self.assertNotIn("refreshed_from", self.generate("seldom", "--raw", "--max-tokens", 4))

    def test_comparisons_with_autoregression(self):
        arguments = ["what is gained", "--raw", "--max-tokens", 40, "--threshold", 0.05]
        found = self.generate(*arguments, "--compare-ar")
        self.assertEqual(found["diffusion"]["text"], self.generate(*arguments)["text"])
        by_tokens = self.generate(*arguments, "--block-size", 1)
        self.assertEqual(found["autoregressive"]["text"], by_tokens["text"])
        self.assertEqual(found["autoregressive"]["tokens_per_forward"], 1)
        speeds = [found[name]["decode_tokens_per_s"] for name in ("diffusion", "autoregressive")]
        self.assertAlmostEqual(found["speedup"], speeds[0] / speeds[1])
        other = self.generate(*arguments, "--compare-ar", "--ar-model", self.folder / "nbdiff")
        alone = self.generate(*arguments[:-2], "--block-size", 1, model="nbdiff")
        self.assertEqual(other["autoregressive"]["text"], alone["text"])

    def test_comparisons_of_a_batch(self):
        path = self.folder / "prompts.jsonl"
        lines = [{"prompt": "one", "id": "first"}, {"prompt": 2}, {"prompt": "three", "max_tokens": 20}]
        path.write_text("\n".join(map(json.dumps, lines)))
        arguments = ["--raw", "--sub-block", 4, "--threshold", 1, "--cache", "sub-block", "--compare", "exact"]
        command = self.command("--batch", path, *arguments, "--max-tokens", 30)
        result = run(*command, "--json")
        self.assertEqual(result.returncode, 2)
        self.assertRegex(result.stderr, r"^perpend: .*prompts.jsonl: line 2: .*\n$")
        *answers, last = map(json.loads, result.stdout.splitlines())
        self.assertEqual([answer.pop("id") for answer in answers], ["first", "3"])
        alone = self.generate("three", *arguments, "--max-tokens", 20)
        for name in ("compared", "reference"):
            self.assertEqual(answers[1][name]["text"], alone[name]["text"])
            for key in ("completion_tokens", "forwards", "rows_computed"):
                self.assertEqual(last["total"][name][key], sum(answer[name][key] for answer in answers))
        self.assertEqual(answers[1]["agreement"], alone["agreement"])
        equal = sum(answer["agreement"]["equal"] for answer in answers)
        self.assertEqual((last["total"]["agreement"]["equal"], last["total"]["prompts"]), (equal, 2))
        self.assertRegex(run(*command).stdout, r"\n2 prompts +this run +exact\ntokens +50 +50\n")

    def test_comparisons_as_text(self):
        arguments = ["side by side", "--raw", "--max-tokens", 40]
        slow = ["--sub-block", 4, "--threshold", 1, "--cache", "sub-block"]
        result = run(*self.command(*arguments, *slow, "--compare", "exact"))
        self.assertEqual(result.returncode, 0, result.stderr)
        for line in (
            r"cache +sub-block +block",
            r"tokens +40 +40",
            r"equal tokens: \d+ of 40 \(\d+\.\d %\)",
            r"first token that differs: after \d+, \".+\" vs \".+\"",
            r"first step that differs: after \d+",
            r"this run +\| exact",
        ):
            self.assertRegex(result.stdout, line)
        result = run(*self.command(*arguments, "--threshold", 0.05, "--compare-ar"))
        self.assertRegex(result.stdout, r"tokens a forward +\d\.\d\d +1\.00\n")
        self.assertRegex(result.stdout, r"diffusion +\| autoregressive\n")
        self.assertNotIn("equal tokens", result.stdout)

    def test_wrong_use(self):
        full = '{"attention": "full", "mask_token_id": 259}'
        cases = [
            (["--compare", "exact"], "plain", "--compare and --compare-ar are for models of diffusion"),
            (["--compare", "best"], "diffusion", "--compare: expected exact or sequential (best)"),
            (["--compare", "exact", "--compare-ar"], "diffusion", "--compare and --compare-ar exclude each other"),
            (["--compare-ar", "--trace", "t.json"], "diffusion", "comparisons exclude --show-denoising, --trace and"),
            (["--compare-ar", "--diffusion", full], "plain", "under full attention no weights are autoregressive"),
            (["--ar-model", "x"], "diffusion", "--ar-model needs --compare-ar"),
            (["--compare-ar", "--ar-adapter", "x"], "diffusion", "--ar-adapter needs --ar-model"),
            (["--replay", "a.gif"], "diffusion", "--replay: expected a path ending in .png or .apng (a.gif)"),
            (["--replay", "a.png"], "plain", "--show-denoising, --trace and --replay are for models of diffusion"),
            (["--block-size", 4], "plain", "--block-size is for models of diffusion alone"),
            (["--show-denoising"], "plain", "--show-denoising, --trace and --replay are for models of diffusion"),
            (["--layers", "all: causal"], "diffusion", "masks of layers are not for a model of diffusion"),
            (["--cache", "dual"], "diffusion", "cache dual is not for attention block; none, block and sub-block are"),
            (["--cache", "big"], "diffusion", "expected none, block, sub-block, prefix, dual or elastic (big)"),
            (["--sub-block", 3], "diffusion", "must be a multiple of the sub-block's (8 vs 3)"),
            (["--unmask", "some"], "diffusion", "--unmask: expected one of threshold, factor, count, steps (some)"),
            (["--confidence", "entropy"], "diffusion", "thresholds and factors are for the confidence probability"),
            (["--repetition-penalty", 1.2], "diffusion", "repetition-penalty is not built for blocks"),
            (["--diffusion", "{}"], "plain", "--diffusion: diffusion.attention: expected block"),
            (["--diffusion", '{"attention": "full", "mask_token_id": 999}'], "plain", "mask token: expected an id below 264"),
        ]
        for arguments, model, expected in cases:
            with self.subTest(expected):
                result = run(*self.command("x", *arguments, model=model))
                self.assertEqual((result.returncode, result.stdout), (2, ""))
                self.assertIn(expected, result.stderr)
                self.assertEqual(result.stderr.count("\n"), 1)
        result = run(*self.command("x", "--replay", "a.png", "--font", self.folder / "none.ttf"))
        self.assertEqual(result.returncode, 2)
        self.assertRegex(result.stderr, "font .*none.ttf: is not there or no font that FreeType reads")
        text = self.folder / "text.txt"
        text.write_text("some words")
        result = run("perplexity", "--text", text, "--model", self.folder / "diffusion")
        self.assertIn("see the very token that they predict", result.stderr)

    def test_any_model_by_its_config(self):
        changed = self.folder / "changed"
        model = ["--diffusion", '{"attention": "context_causal", "block_size": 8, "mask_token_id": 259}']
        arguments = ["hello", "--raw", "--max-tokens", 20, "--threshold", 0.05]
        by_flag = self.generate(*arguments, *model, model="plain")
        self.assertLess(by_flag["forwards"], 20)
        for target in (changed, self.folder / "changed.gguf"):
            result = run("convert", self.folder / "plain", target, *model)
            self.assertEqual(result.returncode, 0, result.stderr)
            converted = self.generate(*arguments, model=target.name)
            self.assertEqual(converted["text"], by_flag["text"])

    def test_what_a_config_says_of_diffusion_stays_when_it_is_converted(self):
        said = {"attention": "block", "block_size": 16, "mask_token_id": 259, "shift": False, "sub_block_size": 4}
        source, packed, again = (self.folder / name for name in ("plain", "said.gguf", "said"))
        for step in ((source, packed, "--diffusion", json.dumps(said)), (packed, again)):
            result = run("convert", *step)
            self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(json.loads((again / "config.json").read_text())["diffusion"], said)

    def bench(self, model: str, *arguments: object) -> list[dict]:
        shape = self.folder / model / "config.json"
        result = run("bench", "diffusion", "--shape", shape, "--device", "cpu", "--threads", 1, "--json", *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        return [json.loads(line) for line in result.stdout.splitlines()]

    def test_bench_replays_schedules(self):
        arguments = ["--prompt", 16, "--tokens", 32, "--batch", "1,2", "--rate", "1,3.5", "--sub-block", 4, "--library-products"]
        setup, *lines = self.bench("diffusion", *arguments)
        self.assertEqual((setup["prompt"], setup["graph"], setup["library_products"]), (16, False, True))
        self.assertEqual(len(lines), 2 * (1 + 2 * 2))
        counts = {}
        for line in lines:
            name = (line["batch"], line.get("rate", 0), line.get("cache"))
            counts[name] = {of["kind"]: (of["count"], of["rows"] // line["batch"]) for of in line["passes"]}
            counts[name]["forwards"] = line["forwards"]
            self.assertAlmostEqual(line["tokens_per_s"] * line["decode_ms"] / 1e3, 31 * line["batch"], delta=1e-6)
        for batch in (1, 2):
            self.assertEqual(counts[batch, 0, None], {"prompt": (1, 16), "token": (31, 1), "forwards": 31})
            # Seven tokens of each of four blocks, one by one; the first comes with the block before.
            by_blocks = {"prompt": (1, 16), "block": (28, 8), "finished": (3, 8), "forwards": 31}
            self.assertEqual(counts[batch, 1, "block"], by_blocks)
            self.assertEqual(counts[batch, 3.5, "block"] | {"prompt": 0}, {"prompt": 0, "block": (8, 8), "finished": (3, 8), "forwards": 11})
            # The whole block once for each sub-block, then the sub-block alone.
            by_parts = {"prompt": (1, 16), "block": (8, 8), "sub-block": (20, 4), "finished": (3, 8), "forwards": 31}
            self.assertEqual(counts[batch, 1, "sub-block"], by_parts)

    def test_bench_replays_elastic_steps(self):
        config = json.loads((self.folder / "diffusion" / "config.json").read_text())
        (self.folder / "full").mkdir(exist_ok=True)
        (self.folder / "full" / "config.json").write_text(json.dumps(config | {"model_type": "Dream", "mask_token_id": MASK_ID}))
        arguments = ["--prompt", 40, "--tokens", 30, "--rate", 2, "--refreshed", "0,1", "--fill-window", 6, "--tracked", 5]
        _, bare, reused, whole = self.bench("full", *arguments)
        self.assertEqual((bare["cache"], bare["rate"]), ("none", 1))
        self.assertEqual((reused["found_refreshed"], whole["found_refreshed"]), (0, 1))
        self.assertEqual((reused["steps"], whole["steps"]), (15, 15))
        # A window of six, two that the last step filled, five that are tracked.
        self.assertGreater(reused["rows"], 8)
        self.assertLessEqual(reused["rows"], 13)
        self.assertTrue({"reuse_ms", "drift_ms"} <= reused.keys() and "layer_ms" in whole)

    def test_bench_says_what_is_wrong(self):
        cases = [
            (["--shape", "llama2-7b"], "llama2-7b is no model of diffusion"),
            (["--shape", "nothing"], "--shape: expected dream-7b"),
            (["--shape", "fast-dllm-v2-1.5b", "--prompt", 31], "--prompt must be a block of 32 at least (31)"),
            (["--shape", self.folder / "diffusion" / "config.json", "--device", "cpu", "--batch", "1,x"], "--batch: expected numbers from 1 to 1024"),
        ]
        for arguments, expected in cases:
            with self.subTest(expected):
                result = run("bench", "diffusion", *arguments)
                self.assertEqual(result.returncode, 2)
                self.assertIn(expected, result.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:])
