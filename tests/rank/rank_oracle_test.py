"""Holds rankings against float64 formulas and BM25 against rank_bm25. rank_oracle_test.py TOOL"""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy as np
import rank_bm25

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "models"))
from llama_files import write_hugging_face
from llama_reference import Sizes, Trace, random_weights, trace_of

TOOL = [sys.argv[1], "rank"]
DEFAULTS = {"lambda": 0.1, "tau": 0.05, "signal_tokens": 2}


def output_of(mode: str, *arguments: object) -> list:
    return json.loads(subprocess.run([*TOOL, mode, *map(str, arguments)], stdout=subprocess.PIPE, check=True).stdout)


def results_of(mode: str, runs: list[dict], *arguments: object) -> list:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(runs, file)
        file.flush()
        return output_of(mode, *arguments, file.name)


def blocks_of(run: dict) -> list[list[int]]:
    return [run["instruction"], *run["documents"], run["query"]]


def block_mask(run: dict) -> np.ndarray:
    """allow(i, j) of section 2.2, pair by pair."""
    block = [b for b, tokens in enumerate(blocks_of(run)) for _ in tokens]
    place = [t for tokens in blocks_of(run) for t in range(len(tokens))]
    last = len(run["documents"]) + 1
    mask = np.zeros((len(block), len(block)), bool)
    for i in range(len(block)):
        for j in range(len(block)):
            inside = block[i] == block[j] and place[j] <= place[i]
            instruction = block[j] == 0 and block[i] > 0
            query = block[i] == last and block[j] < last
            mask[i, j] = inside or instruction or query
    return mask


def positions_of(run: dict) -> list[int]:
    """pos(i) of section 2.3."""
    first = len(run["instruction"])
    starts = [0, *(first for _ in run["documents"]), run["query_pos_offset"]]
    return [start + t for start, tokens in zip(starts, blocks_of(run)) for t in range(len(tokens))]


def weights_of(run: dict, trace: Trace) -> np.ndarray:
    """Attention of the signal rows on document tokens, renormalised, its mean over rows and heads."""
    q, k = trace.q[run["layer"]], trace.k[run["layer"]]
    first, count = len(run["instruction"]), sum(map(len, run["documents"]))
    k = k[first : first + count].repeat(q.shape[1] // k.shape[1], 1)
    z = np.einsum("ihd,jhd->ihj", q[-run["signal_tokens"] :], k) / np.sqrt(q.shape[2])
    z = np.exp(z - z.max(-1, keepdims=True))
    return (z / z.sum(-1, keepdims=True)).mean((0, 1))


class Rankings(unittest.TestCase):
    def setUp(self):
        self.rng = np.random.default_rng(20260306)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def model(self, name: str, sizes: Sizes, model_type: str = "mistral", **config) -> tuple[pathlib.Path, dict]:
        path = self.folder / name
        return path, write_hugging_face(path, sizes, random_weights(sizes, self.rng), model_type, **config)

    def run_of(self, sizes: Sizes, lengths: list[int], **more) -> dict:
        def tokens(count: int) -> list[int]:
            return self.rng.integers(0, sizes.vocab, count).tolist()

        instruction, *documents, query = map(tokens, lengths)
        run = {"instruction": instruction, "documents": documents, "query": query}
        return run | {"layer": 2, "query_pos_offset": 200, "signal_tokens": 2, "packing": "packed"} | more

    def check(self, sizes: Sizes, weights: dict, run: dict, result: dict, mask: np.ndarray):
        tokens = [token for block in blocks_of(run) for token in block]
        trace = trace_of(sizes, weights, tokens, [mask] * sizes.layers, positions_of(run))
        expected = weights_of(run, trace)
        found = np.concatenate(result["weights"])
        self.assertLess(np.abs(found - expected).max(), 1e-4 * expected.max())
        ends = np.cumsum([len(document) for document in run["documents"]])
        sums = np.array([part.sum() for part in np.split(expected, ends[:-1])])
        np.testing.assert_allclose(result["scores"], sums, rtol=1e-4)
        self.assertAlmostEqual(sum(result["scores"]), 1, places=5)
        logits = trace.logits[-len(run["query"]) :]
        errors = np.linalg.norm(result["logits"] - logits, axis=1) / np.linalg.norm(logits, axis=1)
        self.assertLess(errors.max(), 1e-4)

    def test_scores_are_those_of_a_full_forward(self):
        cases = [
            ("mistral", Sizes(layers=4, heads=8, kv_heads=2, head_dim=8, theta=1e6), {"sliding_window": None}),
            ("llama", Sizes(layers=4, heads=3, kv_heads=3, head_dim=10, tied=True), {}),
            ("qwen2", Sizes(layers=4, heads=6, kv_heads=1, head_dim=6, biases=("q", "k", "v")), {}),
        ]
        for model_type, sizes, config in cases:
            path, weights = self.model(model_type, sizes, model_type, **config)
            runs = [
                self.run_of(sizes, lengths, layer=layer, signal_tokens=signal, packing=packing)
                for lengths in ([9, 5, 1, 30, 64, 17, 12], [1, 1, 1], [70, 3, 65, 40])
                for layer, signal in ((3, 2), (1, 1), (0, 1))
                for packing in ("packed", "padded")
                if lengths[-1] >= signal
            ]
            for run, result in zip(runs, results_of("rank", runs, path), strict=True):
                lengths = [len(block) for block in blocks_of(run)]
                with self.subTest(model_type, lengths=lengths, layer=run["layer"], packing=run["packing"]):
                    self.check(sizes, weights, run, result, block_mask(run))

    def test_one_document_is_causal(self):
        sizes = Sizes(layers=4, heads=8, kv_heads=2, head_dim=8)
        path, weights = self.model("one", sizes, sliding_window=None)
        run = self.run_of(sizes, [20, 70, 15], layer=3)
        (result,) = results_of("rank", [run], path)
        mask = block_mask(run)
        self.assertTrue((mask == np.tril(np.ones_like(mask))).all())
        self.check(sizes, weights, run, result, mask)

    def test_config_keys(self):
        keys = {"layer": 1, "lambda": 0.5, "tau": 0.25, "query_pos_offset": 300, "chunk_len": 77, "signal_tokens": 1}
        sizes = Sizes(layers=3, context=500)
        cases = [
            ({}, {"layer": 2, "query_pos_offset": 250, "chunk_len": 125} | DEFAULTS),
            ({"blockrank": keys}, keys),
            ({"blockrank": {"layer": 0}}, {"layer": 0, "query_pos_offset": 250, "chunk_len": 125} | DEFAULTS),
            ({"blockrank": {"layer": 3}}, "key 'layer': expected an integer from 0 to 2, found 3"),
            ({"blockrank": {"layer": 1.5}}, "key 'layer': expected an integer"),
            ({"blockrank": {"query_pos_offset": 500}}, "key 'query_pos_offset': expected an integer from 1 to 499"),
            ({"blockrank": {"tau": 0}}, "key 'tau': expected a number"),
            ({"blockrank": {"lamda": 1}}, "has a key that is not known"),
            ({"blockrank": [1]}, "blockrank: expected an object"),
        ]
        paths = [self.model(str(i), sizes, sliding_window=None, **config)[0] for i, (config, _) in enumerate(cases)]
        for (config, expected), path, found in zip(cases, paths, output_of("config", *paths), strict=True):
            with self.subTest(str(config)):
                if isinstance(expected, str):
                    self.assertIn(str(path / "config.json"), found["error"])
                    self.assertIn(expected, found["error"])
                    continue
                self.assertEqual(found.keys(), expected.keys())
                for key, value in expected.items():
                    self.assertAlmostEqual(found[key], value, places=6, msg=key)

    def test_default_layers_are_20_of_32(self):
        layers = {1: 0, 2: 1, 12: 7, 24: 15, 30: 19, 32: 20}
        tiny = {"vocab": 5, "dim": 2, "ffn": 2, "heads": 1, "kv_heads": 1, "head_dim": 2}
        paths = [self.model(str(count), Sizes(layers=count, **tiny), sliding_window=None)[0] for count in layers]
        self.assertEqual([found["layer"] for found in output_of("config", *paths)], list(layers.values()))


class FirstStage(unittest.TestCase):
    def test_bm25(self):
        rng = np.random.default_rng(5)
        words = [f"w{i}" for i in range(40)]
        common = 1 / np.arange(1, 41)

        def text(count: int) -> str:
            return " ".join(rng.choice(words, count, p=common / common.sum()))

        runs = []
        for options in ({"k1": 1.5, "b": 0.75, "floor": 0.25}, {"k1": 0.9, "b": 0.4, "floor": 0.1}):
            for size in (2, 7, 60):
                texts = [text(int(rng.integers(1, 30))) for _ in range(size)]
                runs.append({"texts": texts, "queries": [text(5) for _ in range(5)] + ["W1 w1, none"]} | options)
        for run, results in zip(runs, results_of("bm25", runs), strict=True):
            oracle = rank_bm25.BM25Okapi(
                [text.split() for text in run["texts"]], k1=run["k1"], b=run["b"], epsilon=run["floor"]
            )
            for query, result in zip(run["queries"], results, strict=True):
                expected = oracle.get_scores(query.lower().replace(",", "").split())
                np.testing.assert_allclose(result["scores"], expected, rtol=1e-9, atol=1e-12)
                order = [i for i in np.argsort(-np.array(result["scores"]), kind="stable") if result["scores"][i] != 0]
                self.assertEqual(result["best"], order)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
