"""Holds the recorded forward pass, all gradients and the losses of diffusion against Transformers. train_oracle_test.py TOOL"""

import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "models"))
from noising_reference import Recipe, diffusion_loss
from llama_files import write_hugging_face
from llama_reference import Sizes, random_weights

transformers.utils.logging.disable_progress_bar()
TOOL = [sys.argv[1], "train"]
TOLERANCE = 1e-4
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
CASES = {
    "llama": ("llama", Sizes(head_dim=8, dim=32), {}),
    "llama 3 with a tied head": ("llama", Sizes(head_dim=8, dim=32, tied=True, scaling=LLAMA3), {}),
    "mistral": ("mistral", Sizes(head_dim=8, dim=20, kv_heads=1), {"sliding_window": None}),
    "qwen2.5": ("qwen2", Sizes(head_dim=8, dim=32, biases=("q", "k", "v"), tied=True), {"use_sliding_window": False}),
}
LENGTHS = (37, 1, 20, 6)
MASK_TOKEN = 5
RECIPES = {
    "Fast-dLLM v2": Recipe("block", MASK_TOKEN, views=2, seed=3),
    "NBDiff": Recipe("context_causal", MASK_TOKEN, first_of_block=False, next_token_weight=0.5, seed=4),
    "BD3-LM": Recipe("block", MASK_TOKEN, block_size=8, shift=False, inverse_weight=True, seed=5),
    "LLaDA": Recipe("full", MASK_TOKEN, shift=False, inverse_weight=True, by_block=False, seed=6),
    "Dream, clipped": Recipe("full", MASK_TOKEN, inverse_weight=True, max_weight=2.0, by_block=False, seed=7),
    "two views without blocks": Recipe("full", MASK_TOKEN, views=2, by_block=False, seed=8),
}


def reference(folder: pathlib.Path, sequences: list[list[int]]) -> tuple[float, np.ndarray, dict[str, np.ndarray]]:
    """Loss, logits of all rows and gradients, each sequence run alone."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    count = sum(len(sequence) - 1 for sequence in sequences)
    loss, logits = 0.0, []
    for sequence in sequences:
        tokens = torch.tensor([sequence])
        output = model(tokens).logits[0]
        logits.append(output.detach().numpy())
        term = torch.nn.functional.cross_entropy(output[:-1], tokens[0, 1:], reduction="sum") / count
        if len(sequence) > 1:
            term.backward()
            loss += term.item()
    gradients = {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}
    return loss, np.concatenate(logits), gradients


class Gradients(unittest.TestCase):
    def assert_close(self, found: np.ndarray, expected: np.ndarray, name: str):
        self.assertEqual(found.shape, expected.shape, name)
        error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
        self.assertLessEqual(error, TOLERANCE, name)

    def assert_gradients(self, found: dict[str, np.ndarray], expected: dict[str, np.ndarray]):
        self.assertEqual(set(found), set(expected))
        for parameter, gradient in expected.items():
            # A gradient that is zero but for rounding has no direction to compare.
            if np.linalg.norm(gradient) < 1e-6:
                self.assertLess(np.linalg.norm(found[parameter]), 1e-5, parameter)
            else:
                self.assert_close(found[parameter], gradient, parameter)

    def run_case(self, folder: pathlib.Path, sequences: list[list[int]], recompute: bool, **more) -> tuple[float, dict]:
        run = folder / "run.json"
        run.write_text(json.dumps({"sequences": sequences, "layers": "causal", "recompute": recompute, **more}))
        command = [*TOOL, folder / "model", run, folder / "out.safetensors"]
        output = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        return json.loads(output)["loss"], load_file(folder / "out.safetensors")

    def test_families(self):
        rng = np.random.default_rng(20261127)
        for name, (family, sizes, config) in CASES.items():
            with self.subTest(name), tempfile.TemporaryDirectory() as path:
                folder = pathlib.Path(path)
                weights = random_weights(sizes, rng)
                write_hugging_face(folder / "model", sizes, weights, family, **config)
                sequences = [rng.integers(0, sizes.vocab, length).tolist() for length in LENGTHS]
                expected_loss, expected_logits, gradients = reference(folder / "model", sequences)
                loss, found = self.run_case(folder, sequences, recompute=name == "mistral")
                self.assertAlmostEqual(loss, expected_loss, delta=TOLERANCE * expected_loss)
                self.assert_close(found.pop("logits"), expected_logits, "logits")
                self.assert_gradients(found, gradients)

    def test_diffusion(self):
        rng = np.random.default_rng(20261128)
        sizes = Sizes(head_dim=8, dim=32)
        with tempfile.TemporaryDirectory() as path:
            folder = pathlib.Path(path)
            write_hugging_face(folder / "model", sizes, random_weights(sizes, rng), "llama")
            for name, recipe in RECIPES.items():
                with self.subTest(name):
                    self.run_recipe(folder, recipe, rng, sizes.vocab)

    def run_recipe(self, folder: pathlib.Path, recipe: Recipe, rng: np.random.Generator, vocab: int):
        sequences = [rng.integers(MASK_TOKEN + 1, vocab, length).tolist() for length in (21, 9)]
        weights = [[0.0] * 4 + rng.choice([0.5, 1.0, 2.0], len(sequence) - 4).tolist() for sequence in sequences]
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder / "model", dtype=torch.float64, attn_implementation="eager"
        )
        expected_loss, logits = diffusion_loss(model, recipe, sequences, weights)
        expected_loss.backward()
        loss, found = self.run_case(
            folder, sequences, recompute=False, weights=weights, diffusion=dataclasses.asdict(recipe)
        )
        self.assertAlmostEqual(loss, expected_loss.item(), delta=TOLERANCE * expected_loss.item())
        self.assert_close(found.pop("logits"), logits.detach().numpy(), "logits")
        self.assert_gradients(found, {name: parameter.grad.numpy() for name, parameter in model.named_parameters()})


unittest.main(argv=sys.argv[:1] + sys.argv[2:])
