"""Runs `perpend train` as its users do: to the end, killed and resumed, as LoRA, misconfigured. train_command_test.py PROGRAM"""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree

import numpy as np
from safetensors.numpy import load_file

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "cli"))
from png_rows import read_png

PROGRAM = sys.argv[1]
VOCAB = 64
STEPS = 40
SHAPE = """
[model.shape]
vocab_size = 64
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 2
num_attention_heads = 4
num_key_value_heads = 2
"""
CONFIG = """
out = "{out}"
steps = {steps}
seed = 3
threads = 1
state_every = 4
recompute = true
accumulation = 2
{model}
[data]
path = "{data}"
batch_tokens = 96
[optimizer]
learning_rate = 1e-2
warmup_steps = 5
final_learning_rate = 1e-3
weight_decay = 0.1
"""


def run(*arguments: object) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PERPEND_")}
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, env=environment, timeout=120)


def write_data(folder: pathlib.Path, rng: np.random.Generator) -> None:
    """Arithmetic progressions modulo the vocabulary, as numpy writes arrays: the next token can be told."""
    folder.mkdir()
    lengths = rng.integers(8, 40, 60)
    sequences = [(rng.integers(VOCAB) + np.arange(n) * rng.integers(1, 4)) % VOCAB for n in lengths]
    np.concatenate(sequences).astype(np.uint16).tofile(folder / "tokens.bin")
    np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64).tofile(folder / "indptr.bin")
    header = {
        "format": "perpend-sequences",
        "version": 1,
        "num_sequences": len(lengths),
        "num_tokens": int(lengths.sum()),
        "token_type": "u16",
    }
    (folder / "dataset.json").write_text(json.dumps(header))


def losses_of(out: pathlib.Path) -> list[tuple[int, float]]:
    return [(entry["step"], entry["loss"]) for entry in map(json.loads, (out / "log.jsonl").read_text().splitlines())]


class Train(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        write_data(self.folder / "data", np.random.default_rng(1))

    def config(self, out: str, model: str = SHAPE, steps: int = STEPS, more: str = "") -> pathlib.Path:
        path = self.folder / f"{out}.toml"
        path.write_text(CONFIG.format(out=self.folder / out, data=self.folder / "data", model=model, steps=steps) + more)
        return path

    def kill_behind(self, config: pathlib.Path, step: int) -> None:
        """Starts or resumes the run and kills it as soon as its log has that step."""
        log = self.folder / config.stem / "log.jsonl"
        before = log.stat().st_ino if log.exists() else 0
        process = subprocess.Popen([PROGRAM, "train", config, "--resume"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None:
            # A resumed run begins with a log of its own.
            if log.exists() and log.stat().st_ino != before and log.read_bytes().count(b"\n") >= step:
                process.send_signal(signal.SIGKILL)
            time.sleep(0.002)
        self.assertEqual(process.returncode, -signal.SIGKILL)

    def test_a_killed_run_ends_as_an_uninterrupted_one(self):
        whole = run("train", self.config("whole"), "--json")
        self.assertEqual(whole.returncode, 0, whole.stderr)
        report = json.loads(whole.stdout)
        self.assertEqual(report["steps"], STEPS)

        seed = random.randrange(2**32)
        steps = sorted(random.Random(seed).sample(range(2, STEPS - 2), 2))
        with self.subTest(seed=seed, killed_behind=steps):
            config = self.config("killed")
            for step in steps:
                self.kill_behind(config, step)
            resumed = run("train", config, "--resume")
            self.assertEqual(resumed.returncode, 0, resumed.stderr)
            files = [self.folder / out / "model" / "model.safetensors" for out in ("whole", "killed")]
            self.assertEqual(files[0].read_bytes(), files[1].read_bytes())
            self.assertEqual(losses_of(self.folder / "whole"), losses_of(self.folder / "killed"))
            self.assertEqual([path.name for path in (self.folder / "killed").glob("states/*.tmp*")], [])

        losses = [loss for _, loss in losses_of(self.folder / "whole")]
        self.assertEqual(len(losses), STEPS)
        self.assertGreater(losses[0], 4.0)
        self.assertLess(np.mean(losses[-5:]), 2.5)
        self.assertAlmostEqual(report["loss"], losses[-1])
        read_png((self.folder / "whole" / "loss.png").read_bytes())
        xml.etree.ElementTree.parse(self.folder / "whole" / "loss.svg")

    def test_lora_on_a_model_that_was_trained(self):
        config = self.config("base", model='[model]\npreset = "longgen-as(window=3)"' + SHAPE, steps=6)
        self.assertEqual(run("train", config).returncode, 0)
        model = self.folder / "base" / "model"
        self.assertEqual(json.loads((model / "config.json").read_text())["longgen"]["window_blocks"], 3)
        before = model.joinpath("model.safetensors").read_bytes()
        config = self.config("lora", model=f'[model]\npath = "{model}"\n[lora]\nrank = 2\ntargets = ["q_proj", "up_proj"]')
        result = run("train", config)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(before, model.joinpath("model.safetensors").read_bytes())
        tensors = load_file(self.folder / "lora" / "adapter" / "adapter_model.safetensors")
        self.assertEqual(len(tensors), 2 * 2 * 2)
        name = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"
        self.assertEqual(tensors[name].shape, (64, 2))
        self.assertGreater(np.abs(tensors[name]).max(), 0)
        config = json.loads((self.folder / "lora" / "adapter" / "adapter_config.json").read_text())
        self.assertEqual((config["r"], config["lora_alpha"], config["peft_type"]), (2, 4, "LORA"))

    def test_diffusion_with_blocks_that_grow(self):
        diffusion = '[diffusion]\nattention = "context_causal"\nmask_token_id = 0\nblock_size = 4\ngrow_from = 1\ngrow_every = 4\n'
        losses = '[[loss]]\nkind = "masked_token"\n[[loss]]\nkind = "next_token"\nweight = 0.5\n'
        data = self.folder / "data"
        tokens = np.fromfile(data / "tokens.bin", np.uint16)
        np.maximum(tokens, 1).tofile(data / "tokens.bin")
        config = self.config("grown", steps=12, more=diffusion + losses)
        result = run("train", config, "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        entries = [json.loads(line) for line in (self.folder / "grown" / "log.jsonl").read_text().splitlines()]
        self.assertEqual([list(entry["losses"]) for entry in entries], [["next_token"]] * 4 + [["masked_token", "next_token"]] * 8)
        self.assertAlmostEqual(entries[-1]["loss"], entries[-1]["losses"]["masked_token"] + 0.5 * entries[-1]["losses"]["next_token"], 4)
        model = json.loads((self.folder / "grown" / "model" / "config.json").read_text())
        self.assertEqual(model["diffusion"], {"attention": "context_causal", "block_size": 4, "mask_token_id": 0, "shift": True})
        np.minimum(tokens, 0).tofile(data / "tokens.bin")
        self.assertIn("the mask token (0) is to be learnt at token 0", run("train", self.config("masked", more=diffusion + losses)).stderr)

    def test_adapters_and_matrices_of_diffusion(self):
        """What is trained, what is kept, and what the results say of themselves."""
        data = self.folder / "data"
        tokens = np.fromfile(data / "tokens.bin", np.uint16)
        np.maximum(tokens, 1).tofile(data / "tokens.bin")
        self.assertEqual(run("train", self.config("base", steps=6)).returncode, 0)
        base = self.folder / "base" / "model"
        diffusion = '[diffusion]\nattention = "block"\nmask_token_id = 0\nblock_size = 4\n'
        model = f'[model]\npath = "{base}"\n'
        for name, more in (("lora", "[lora]\nrank = 2\n"), ("matrices", "")):
            config = self.config(name, model=model, steps=6, more=diffusion + more)
            if not more:
                config.write_text('trained = "matrices"\n' + config.read_text())
            result = run("train", config)
            self.assertEqual(result.returncode, 0, result.stderr)
        said = json.loads((self.folder / "lora" / "adapter" / "adapter_config.json").read_text())
        expected = {"attention": "block", "block_size": 4, "mask_token_id": 0, "shift": True}
        self.assertEqual((said["diffusion"], said["trainable_token_indices"]), (expected, {"embed_tokens": [0]}))
        before = load_file(base / "model.safetensors")
        mean = before["model.embed_tokens.weight"].mean(0, keepdims=True)
        row = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"
        np.testing.assert_allclose(load_file(self.folder / "lora" / "adapter" / "adapter_model.safetensors")[row], mean, atol=1e-6)
        after = load_file(self.folder / "matrices" / "model" / "model.safetensors")
        changed = {name for name in before if not np.array_equal(before[name], after[name])}
        self.assertEqual(changed - {"model.embed_tokens.weight"}, {name for name in before if "_proj" in name})
        differs = np.any(before["model.embed_tokens.weight"] != after["model.embed_tokens.weight"], axis=1)
        self.assertEqual(np.flatnonzero(differs).tolist(), [0])

    def test_evaluate_says_what_the_run_said(self):
        data = self.folder / "data"
        evaluation = f'[evaluation]\npath = "{data}"\nevery = 4\n'
        model = self.folder / "base" / "model"
        layers = "0: causal & window(3); rest: causal"
        runs = {
            "base": (f'[model]\nlayers = "{layers}"' + SHAPE, []),
            "lora": (f'[model]\npath = "{model}"\nlayers = "{layers}"\n[lora]\nrank = 2', ["--adapter", self.folder / "lora" / "adapter"]),
        }
        losses = []
        for name, (shape, flags) in runs.items():
            self.assertEqual(run("train", self.config(name, model=shape, steps=6, more=evaluation)).returncode, 0)
            log = [json.loads(line) for line in (self.folder / name / "log.jsonl").read_text().splitlines()]
            self.assertEqual([entry["step"] for entry in log if "evaluation" in entry], [4, 6])
            command = ["evaluate", "--model", model, "--data", data, "--device", "cpu", "--layers", layers, *flags]
            result = run(*command, "--data", data, "--json")
            self.assertEqual(result.returncode, 0, result.stderr)
            lines = [json.loads(line) for line in result.stdout.splitlines()]
            self.assertEqual(len(lines), 2)
            for found in lines:
                self.assertAlmostEqual(found["loss"], log[-1]["evaluation"]["loss"], places=4)
                self.assertAlmostEqual(found["exact_match"], log[-1]["evaluation"]["exact_match"], places=2)
                self.assertEqual(found["targets"], found["tokens"] - found["sequences"])
            losses.append(lines[0]["loss"])
            other_masks = run("evaluate", "--model", model, "--data", data, "--device", "cpu", *flags, "--json")
            self.assertNotAlmostEqual(json.loads(other_masks.stdout)["loss"], losses[-1], places=4)
        self.assertLess(losses[1], losses[0] - 0.01)
        missing = run("evaluate", "--model", model, "--data", self.folder / "nowhere", "--device", "cpu")
        self.assertEqual(missing.returncode, 2)
        self.assertIn("nowhere", missing.stderr)

    def test_what_is_wrong_is_named(self):
        path = self.config("wrong", more="momentum = 0.9\n")
        result = run("train", path)
        self.assertEqual(result.returncode, 2)
        self.assertIn("wrong.toml:", result.stderr)
        self.assertIn("[optimizer] unknown key 'momentum'", result.stderr)
        path.write_text(path.read_text().replace("momentum", "weight_decya"))
        self.assertIn("did you mean 'weight_decay'?", run("train", path).stderr)
        (self.folder / "data" / "dataset.json").write_text("{}")
        self.assertIn("dataset.json", run("train", self.config("broken")).stderr)


unittest.main(argv=sys.argv[:1] + sys.argv[2:])
