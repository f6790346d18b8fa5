"""Holds diffusion language models against a transcription of their papers. diffusion_oracle_test.py TOOL"""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy as np
from diffusion_files import FAMILIES, MASK, STOP, VOCAB, write_twin
from diffusion_reference import Network, block_causal, block_decode, causal, full
from diffusion_samplers import Rule, fast_dllm_v2, full_attention, nbdiff
from elastic_reference import Setting, elastic

TOOL = [sys.argv[1], "llama"]
TOLERANCE = 1e-4


def output_of(*arguments: object) -> list:
    return json.loads(subprocess.run([*TOOL, *map(str, arguments)], stdout=subprocess.PIPE, check=True).stdout)


class DiffusionTest(unittest.TestCase):
    def setUp(self):
        self.rng = np.random.default_rng(20261127)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def runs(self, command: str, path: pathlib.Path, runs: list[dict]) -> list[dict]:
        (self.folder / "runs.json").write_text(json.dumps(runs))
        return output_of(command, path, self.folder / "runs.json")


class Canvases(DiffusionTest):
    """Logits of whole canvases under the masks of the systems."""

    def masks(self, family: str, length: int) -> list[tuple[str, np.ndarray]]:
        if family == "fast_dllm":
            return [("", block_causal(length, 8)), ("block_causal(4)", block_causal(length, 4))]
        if family == "nbdiff":
            return [("", causal(length)), (f"block_decode(16, {length - 11})", block_decode(length, length - 11))]
        return [("", full(length))]

    def test_logits(self):
        length = 43
        tokens = self.rng.integers(0, VOCAB, length).tolist()
        tokens[20:24] = tokens[-9:-2] = [MASK] * 7
        length = len(tokens)
        for family in FAMILIES:
            path = self.folder / family
            net = Network(*write_twin(path, family, self.rng))
            masks = self.masks(family, length)
            runs = [{"sequences": [tokens], "chunk": length, "layers": text, "retain": False} for text, _ in masks]
            for result, (text, mask) in zip(self.runs("run", path, runs), masks):
                with self.subTest(family, mask=text):
                    found, expected = np.array(result["logits"][0]), net.logits(tokens, mask)
                    errors = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
                    self.assertTrue((errors <= TOLERANCE).all(), f"row {errors.argmax()}: {errors.max()}")
                    plain = net.logits(tokens, causal(length))
                    if text or family != "nbdiff":
                        self.assertGreater(np.linalg.norm(plain - expected), 0.05 * np.linalg.norm(expected))

    def test_tied_embeddings(self):
        for duplicate in (False, True):
            path = self.folder / f"tied{duplicate}"
            config, tensors = write_twin(path, "fast_dllm", self.rng, tie_word_embeddings=True)
            # The twin still has the head's tensor, which tied embeddings overrule.
            net = Network(config, {k: v for k, v in tensors.items() if k != "lm_head.weight"})
            tokens = self.rng.integers(0, VOCAB, 16).tolist()
            (result,) = self.runs("run", path, [{"sequences": [tokens], "chunk": 16, "layers": "", "retain": False}])
            np.testing.assert_allclose(result["logits"][0], net.logits(tokens, block_causal(16, 8)), rtol=0, atol=1e-3)


class Samplers(DiffusionTest):
    """Answers, token by token and with as many forwards, on the same weights."""

    RULES = [("threshold", 1.0), ("threshold", 0.3), ("threshold", 0.1), ("factor", 0.8), ("steps", 3)]

    def rule(self, kind: str, value: float, strict: bool) -> Rule:
        return Rule(**{kind: value, "strict": strict})

    def check(self, family: str, runs: list[dict], answer):
        """`answer` must need fewer forwards than tokens now and then, and meet a stop token."""
        path = self.folder / family
        net = Network(*write_twin(path, family, self.rng))
        expected = []
        for run in runs:
            # A token of the answer before may well be one of this answer.
            run["stop"] = expected[-1].tokens[len(expected[-1].tokens) // 2] if expected else STOP
            expected.append(answer(net, run))
        stopped, saved = 0, 0
        for run, wanted, result in zip(runs, expected, self.runs("diffuse", path, runs)):
            with self.subTest(family, **run | {"prompt": len(run["prompt"])}):
                self.assertEqual((result["tokens"], result["forwards"]), (wanted.tokens, wanted.forwards))
            stopped += run["stop"] in wanted.tokens
            saved += wanted.forwards < 0.7 * len(wanted.tokens)
        self.assertGreater(stopped, len(runs) // 10)
        self.assertGreater(saved, len(runs) // 10)

    def cases(self, lengths: list[int], blocks: list[tuple[int, int]], caches: list[str]) -> list[dict]:
        prompts = [self.rng.integers(0, MASK - 1, length).tolist() for length in lengths]
        return [
            {"prompt": prompt, "max_tokens": 27, "block": block, "sub_block": sub, "cache": cache, "rule": kind, "value": value}
            for prompt in prompts
            for block, sub in blocks
            for cache in caches
            for kind, value in self.RULES
        ]

    def test_fast_dllm_v2(self):
        def answer(net, run):
            rule = self.rule(run["rule"], run["value"], True)
            cached = run["cache"] == "sub-block"
            sizes = run["max_tokens"], run["block"], run["sub_block"]
            return fast_dllm_v2(net, run["prompt"], *sizes, rule, MASK, run["stop"], cached)

        blocks = [(8, 4), (16, 2), (1, 1)]
        self.check("fast_dllm", self.cases([8, 19], blocks, ["none", "block", "sub-block"]), answer)

    def test_nbdiff(self):
        def answer(net, run):
            rule = self.rule(run["rule"], run["value"], True)
            return nbdiff(net, run["prompt"], run["max_tokens"], run["block"], run["sub_block"], rule, MASK, run["stop"])

        self.check("nbdiff", self.cases([1, 16], [(8, 4), (8, 8), (1, 1)], ["none", "block"]), answer)

    def test_full_attention(self):
        for family in ("llada", "dream"):

            def answer(net, run):
                rule = self.rule(run["rule"], run["value"], False)
                sizes = run["max_tokens"], run["block"]
                return full_attention(
                    net, run["prompt"], *sizes, rule, MASK, run["stop"], family == "dream", run["cache"]
                )

            self.check(family, self.cases([12], [(8, 8), (27, 27)], ["none", "prefix", "dual"]), answer)


class Elastic(DiffusionTest):
    """Elastic-Cache step by step: tokens, the layer from which each step refreshed, and rows computed."""

    def test_answers(self):
        cases = [
            {"gamma": gamma, "similarity": metric, "track": track, "window": window, "value": value, "always": always}
            for gamma in (-1.0, 0.5, 0.9, 0.99, 2.0)
            for metric in ("heads", "keys")
            for track, window, value, always in ((1, 6, 0.2, False), (3, 30, 0.1, False), (1, 6, 0.2, True))
        ]
        for family in ("llada", "dream"):
            path = self.folder / family
            net = Network(*write_twin(path, family, self.rng))
            prompt = self.rng.integers(0, MASK - 1, 13).tolist()
            usual = {"prompt": prompt, "max_tokens": 26, "block": 0, "sub_block": 0, "cache": "elastic", "rule": "threshold"}
            runs = [usual | case | {"stop": self.rng.integers(0, MASK - 1).item()} for case in cases]
            seen = set()
            for run, result in zip(runs, self.runs("diffuse", path, runs)):
                setting = Setting(run["window"], run["gamma"], run["similarity"], run["track"], run["always"])
                rule = Rule(threshold=run["value"], strict=False)
                answer, cache = elastic(net, prompt, 26, rule, MASK, run["stop"], family == "dream", setting)
                with self.subTest(family, **run | {"prompt": len(prompt)}):
                    self.assertEqual(result["tokens"], answer.tokens)
                    self.assertEqual(result["boundaries"], cache.boundaries)
                    self.assertEqual(result["layer_rows"], cache.rows)
                    self.assertEqual(result["forwards"], answer.forwards)
                seen |= set(cache.boundaries[1:])
                # gamma <= 0: all is refreshed once.
                self.assertTrue(run["gamma"] > 0 or run["always"] or set(cache.boundaries[1:]) <= {net.layers})
            self.assertEqual(seen, {0, 1, net.layers})


class Faults(DiffusionTest):
    """What a config.json says and is not built is named, with its key."""

    def test_configs(self):
        cases = [
            ("llada", {"rope": False}, "rope false is not built"),
            ("llada", {"attention_layer_norm": True}, "attention_layer_norm true is not built"),
            ("llada", {"block_type": "sequential"}, "block_type 'sequential' is not built; llama is"),
            ("llada", {"activation_type": "swiglu"}, "activation_type 'swiglu' is not built; silu is"),
            ("llada", {"block_group_size": 2}, "block_group_size 2 is not built"),
            ("llada", {"mlp_hidden_size": None}, "key 'mlp_hidden_size' is missing"),
            ("fast_dllm", {"bd_size": 0}, "bd_size: expected 1 to"),
            ("dream", {"mask_token_id": -1}, "mask_token_id: expected 0 to"),
            ("dream", {"mask_token_id": "a"}, "key 'mask_token_id': expected an integer, found \"a\""),
            ("dream", {"diffusion": 3}, "diffusion: expected an object, found 3"),
            ("dream", {"diffusion": {"mask_token_id": 3}}, "diffusion.attention: expected block, context_causal or full"),
            ("dream", {"diffusion": {"attention": "full"}}, "diffusion: key 'mask_token_id' is missing"),
            ("dream", {"diffusion": {"attention": "full", "mask_token_id": 3, "size": 1}}, "diffusion.size: no such key"),
            (
                "fast_dllm",
                {"diffusion": {"attention": "block", "mask_token_id": 3, "block_size": 16, "sub_block_size": 3}},
                "diffusion.sub_block_size: expected a divisor of the block size 16, found 3",
            ),
            ("dream", {"longgen": {"variant": "as"}}, "both longgen and diffusion"),
        ]
        paths = [self.folder / str(index) for index in range(len(cases))]
        for path, (family, changes, _) in zip(paths, cases):
            write_twin(path, family, self.rng, **changes)
        for path, (_, _, expected), error in zip(paths, cases, output_of("load", *paths)):
            with self.subTest(expected):
                self.assertIn(str(path), error)
                self.assertIn(expected, error)


unittest.main(argv=sys.argv[:1] + sys.argv[2:])
