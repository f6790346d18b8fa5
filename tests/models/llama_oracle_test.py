"""Holds the Llama family against a float64 implementation on tiny random models. llama_oracle_test.py TOOL"""

import dataclasses
import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

import numpy as np
from family_cases import FAMILIES, GOLDENS, write_family
from llama_files import write_gguf, write_hugging_face
from llama_reference import Sizes, logits_of, random_weights

TOOL = [sys.argv[1], "llama"]
TOLERANCE = 1e-4
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
QKV = ("q", "k", "v")


@dataclasses.dataclass
class Case:
    """A model, how it is written, and the longest sequence."""

    name: str
    sizes: Sizes
    architecture: str = "llama"
    gguf: tuple[str, ...] = ()  # formats of a GGUF file; none: a Hugging Face folder
    dtype: str = "float32"
    shards: int = 1
    config: dict = dataclasses.field(default_factory=dict)
    length: int = 40


CASES = [
    Case("grouped heads", Sizes()),
    Case("one head for all keys", Sizes(heads=6, kv_heads=1, head_dim=4)),
    Case("as many key heads", Sizes(heads=3, kv_heads=3, head_dim=8, tied=True)),
    Case("odd head counts", Sizes(heads=9, kv_heads=3, head_dim=10, dim=30, tied=True)),
    Case("large epsilon, other theta", Sizes(epsilon=0.05, theta=500.0)),
    Case("biases everywhere", Sizes(biases=("q", "k", "v", "o", "gate", "up", "down"))),
    Case("a bias of k alone", Sizes(biases=("k",))),
    Case("linear scaling", Sizes(scaling={"type": "linear", "factor": 2.5})),
    Case("llama3 scaling", Sizes(head_dim=16, scaling=LLAMA3), length=200),
    Case(
        "rope_parameters",
        Sizes(head_dim=16, theta=700.0, scaling=LLAMA3),
        config={"rope_scaling": None, "rope_theta": None, "rope_parameters": LLAMA3 | {"rope_theta": 700.0}},
        length=100,
    ),
    Case("mistral", Sizes(head_dim=8, dim=20), "mistral", config={"sliding_window": None}),
    Case("qwen2", Sizes(biases=QKV, tied=True), "qwen2", config={"sliding_window": 8, "use_sliding_window": False}),
    Case("f16", Sizes(), dtype="float16"),
    Case("bf16 in three shards", Sizes(layers=3), dtype="bfloat16", shards=3),
    Case("gguf llama", Sizes(), gguf=("F32",)),
    Case("gguf llama, biases", Sizes(biases=QKV, head_dim=8, heads=3, kv_heads=1), gguf=("F16",)),
    Case("gguf llama, a part of a head turns", Sizes(head_dim=10, rotary_dim=4), gguf=("BF16", "F32")),
    Case("gguf llama, linear", Sizes(scaling={"type": "linear", "factor": 4.0}), gguf=("F32",)),
    Case("gguf llama, stored frequencies", Sizes(head_dim=16, scaling=LLAMA3), gguf=("F32",), length=150),
    Case("gguf qwen2", Sizes(biases=QKV, tied=True), "qwen2", gguf=("F32",)),
    Case(
        "gguf in blocks",
        Sizes(dim=64, ffn=96, head_dim=16, tied=True),
        gguf=("Q8_0", "Q4_1", "Q4_0", "Q5_0", "Q5_1"),
    ),
]


def write(folder: pathlib.Path, case: Case, rng: np.random.Generator) -> tuple[pathlib.Path, dict]:
    """The model's path and its weights as stored."""
    weights = random_weights(case.sizes, rng)
    if case.gguf:
        path = folder / f"{case.name}.gguf"
        return path, write_gguf(path, case.sizes, weights, case.architecture, case.gguf)
    path = folder / case.name
    return path, write_hugging_face(
        path, case.sizes, weights, case.architecture, case.dtype, case.shards, **case.config
    )


def output_of(*arguments: object) -> list:
    return json.loads(subprocess.run([*TOOL, *map(str, arguments)], stdout=subprocess.PIPE, check=True).stdout)


def results_of(path: pathlib.Path, runs: list[dict]) -> list[dict]:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump([{"chunk": 10**6, "layers": "causal", "retain": False} | run for run in runs], file)
        file.flush()
        results = output_of("run", path, file.name)
    return [result | {"logits": [np.array(sequence) for sequence in result["logits"]]} for result in results]


def causal(length: int) -> np.ndarray:
    return np.tril(np.ones((length, length), bool))


def sink_or_window(length: int, sink: int, window: int) -> np.ndarray:
    q, k = np.indices((length, length))
    return causal(length) & ((k < sink) | (q - k < window))


class LlamaTest(unittest.TestCase):
    def setUp(self):
        self.rng = np.random.default_rng(20260105)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def tokens(self, sizes: Sizes, length: int) -> list[int]:
        return self.rng.integers(0, sizes.vocab, length).tolist()

    def assert_close(self, found: np.ndarray, expected: np.ndarray, tolerance: float = TOLERANCE):
        self.assertEqual(found.shape, expected.shape)
        # Each token for itself, so that a wrong one can not hide; a NaN fails.
        errors = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
        self.assertTrue((errors <= tolerance).all(), f"token {errors.argmax()}: {errors.max()}")


class Families(LlamaTest):
    def test_logits(self):
        for case in CASES:
            with self.subTest(case.name):
                path, weights = write(self.folder, case, self.rng)
                tokens = self.tokens(case.sizes, case.length)
                (result,) = results_of(path, [{"sequences": [tokens]}])
                masks = [causal(case.length)] * case.sizes.layers
                self.assert_close(result["logits"][0], logits_of(case.sizes, weights, tokens, masks))


class Transformers(LlamaTest):
    """The published families against logits of `transformers` (make_family_goldens.py)."""

    def test_logits(self):
        goldens = json.loads(GOLDENS.read_text())["goldens"]
        self.assertEqual([golden["name"] for golden in goldens], [family.name for family in FAMILIES])
        for index, golden in enumerate(goldens):
            with self.subTest(golden["name"]):
                path = self.folder / str(index)
                tokens, digest = write_family(path, index)
                self.assertEqual(digest, golden["digest"], "the weights are others than those of the goldens")
                (result,) = results_of(path, [{"sequences": [tokens]}])
                self.assert_close(result["logits"][0][:: golden["row_step"]], np.array(golden["logits"]))


def longgen_mask(length: int, keys: dict, kv_head: int) -> np.ndarray:
    """arXiv:2410.01485, from the keys of config.json."""
    q, k = np.indices((length, length))
    qb, kb = q // keys["block_size"], k // keys["block_size"]
    far = kb < keys["sink_blocks"]
    if keys["variant"] == "bs":
        far |= (kb + kv_head * keys["head_shift"]) % keys["stride_blocks"] == 0
    return causal(length) & ((qb - kb < keys["window_blocks"]) | far)


class LongGen(LlamaTest):
    """A checkpoint with the keys of LongGen is a hybrid by itself."""

    KEYS = {"block_size": 16, "n_full": 1, "lo": 1, "sink_blocks": 1, "window_blocks": 2, "head_shift": 0}
    SINK = KEYS | {"variant": "as", "stride_blocks": 0}
    STRIDED = KEYS | {"variant": "bs", "stride_blocks": 3, "sink_blocks": 0, "head_shift": 2}

    def test_logits(self):
        length = 150
        for keys, kv_heads in [(self.SINK, 2), (self.SINK, 6), (self.STRIDED, 2), (self.STRIDED, 6)]:
            with self.subTest(keys["variant"], kv_heads=kv_heads):
                sizes = Sizes(layers=3, heads=6, kv_heads=kv_heads, head_dim=8)
                weights = random_weights(sizes, self.rng)
                path = self.folder / f"{keys['variant']}{kv_heads}"
                write_hugging_face(path, sizes, weights, "llama", longgen=keys)
                tokens = self.tokens(sizes, length)
                run = {"sequences": [tokens], "layers": ""}
                runs = [run, run | {"layers": "causal"}, run | {"chunk": 1, "retain": True}, run | {"chunk": 64, "retain": True}]
                own, plain, *retained = results_of(path, runs)
                group = sizes.heads // kv_heads
                sparse = np.stack([longgen_mask(length, keys, head // group) for head in range(sizes.heads)])
                full = np.broadcast_to(causal(length), sparse.shape)
                expected = logits_of(sizes, weights, tokens, [sparse, full, sparse])
                self.assert_close(own["logits"][0], expected)
                self.assertGreater(np.linalg.norm(plain["logits"][0] - expected), 0.05 * np.linalg.norm(expected))
                for result in retained:
                    self.assert_close(result["logits"][0], expected)


class Caches(LlamaTest):
    """One model, run in many ways that must not matter."""

    def setUp(self):
        super().setUp()
        self.sizes = Sizes(layers=3, heads=6, kv_heads=2, head_dim=8)
        self.path, self.weights = write(self.folder, Case("model", self.sizes), self.rng)

    def test_chunks_and_single_tokens(self):
        tokens = self.tokens(self.sizes, 150)
        chunks = [150, 1, 2, 7, 9, 63, 64, 65, 149]
        whole, *others = results_of(self.path, [{"sequences": [tokens], "chunk": chunk} for chunk in chunks])
        expected = logits_of(self.sizes, self.weights, tokens, [causal(150)] * 3)
        for chunk, result in zip(chunks[1:], others):
            with self.subTest(chunk=chunk):
                self.assert_close(result["logits"][0], expected)
                self.assert_close(result["logits"][0], whole["logits"][0], 1e-5)

    def test_batch_mates_change_no_bit(self):
        lengths = [70, 1, 130, 64, 17]
        sequences = [self.tokens(self.sizes, length) for length in lengths]
        for chunk in (1, 16, 200):
            with self.subTest(chunk=chunk):
                together, *alone = results_of(
                    self.path,
                    [{"sequences": batch, "chunk": chunk} for batch in [sequences, *([s] for s in sequences)]],
                )
                for mine, result in zip(together["logits"], alone):
                    self.assertTrue(np.array_equal(mine, result["logits"][0]))

    def test_masks_of_layers(self):
        length = 320
        tokens = self.tokens(self.sizes, length)
        layers = "0: causal & (sink(5) | window(70)); 1: causal & window(3); rest: causal"
        masks = [sink_or_window(length, 5, 70), sink_or_window(length, 0, 3), causal(length)]
        expected = logits_of(self.sizes, self.weights, tokens, masks)
        everything = logits_of(self.sizes, self.weights, tokens, [causal(length)] * 3)
        self.assertGreater(np.linalg.norm(expected - everything), 0.1 * np.linalg.norm(everything))
        for chunk in (1, 50, 64, 320):
            with self.subTest(chunk=chunk):
                run = {"sequences": [tokens], "chunk": chunk, "layers": layers}
                full, retained = results_of(self.path, [run, run | {"retain": True}])
                self.assert_close(full["logits"][0], expected)
                self.assertTrue(np.array_equal(full["logits"][0], retained["logits"][0]))
                # Of five pages the first layer needs one for the sink and two for the window.
                self.assertEqual(retained["kv_bytes"] * 15, full["kv_bytes"] * (3 + 1 + 5))


class Faults(LlamaTest):
    """What is wrong is named, with its file."""

    def setUp(self):
        super().setUp()
        self.expected = []

    def check(self, path: pathlib.Path, *expected: str):
        self.expected.append((path, expected))

    def tearDown(self):
        """One process reads all models of a test."""
        errors = output_of("load", *(path for path, _ in self.expected))
        self.assertEqual(len(errors), len(self.expected))
        for error, (path, expected) in zip(errors, self.expected):
            for text in (str(path), *expected):
                self.assertIn(text, error)

    def hugging_face(self, change=lambda weights: None, sizes: Sizes = Sizes(), **config) -> pathlib.Path:
        weights = random_weights(sizes, self.rng)
        change(weights)
        path = self.folder / str(len(list(self.folder.iterdir())))
        write_hugging_face(path, sizes, weights, config.pop("model_type", "llama"), **config)
        return path

    def gguf(self, change=lambda weights: None, sizes: Sizes = Sizes(), architecture: str = "llama") -> pathlib.Path:
        weights = random_weights(sizes, self.rng)
        change(weights)
        path = self.folder / f"{len(list(self.folder.iterdir()))}.gguf"
        write_gguf(path, sizes, weights, architecture)
        return path

    def test_tensors(self):
        def without(name):
            return lambda weights: weights.pop(name)

        def shaped(name, *shape):
            return lambda weights: weights.update({name: np.zeros(shape, np.float32)})

        name = "'model.layers.1.mlp.down_proj.weight'"
        self.check(self.hugging_face(without("1.down")), f"tensor {name} is missing")
        self.check(self.hugging_face(shaped("1.down", 24, 41)), f"tensor {name}: expected the shape [24, 40], found [24, 41]")
        self.check(self.hugging_face(shaped("1.down", 960)), f"tensor {name}", "found [960]")
        self.check(self.hugging_face(without("head")), "tensor 'lm_head.weight' is missing")
        self.check(self.hugging_face(shaped("0.k.bias", 11)), "'model.layers.0.self_attn.k_proj.bias'", "[12], found [11]")
        self.check(self.gguf(without("embedding")), "'token_embd.weight'")
        self.check(self.gguf(without("0.mlp_norm")), "tensor 'blk.0.ffn_norm.weight' is missing")
        self.check(self.gguf(shaped("final_norm", 25)), "tensor 'output_norm.weight': expected the shape [24], found [25]")
        self.check(self.gguf(shaped("0.k", 24, 24)), "tensor 'blk.0.attn_k.weight': expected the shape [12, 24]")

    def test_architectures(self):
        self.check(self.hugging_face(model_type="mamba"), "model_type 'mamba'", "llama, mistral and qwen2")
        self.check(self.gguf(architecture="mamba"), "general.architecture 'mamba'", "llama and qwen2")
        self.check(self.hugging_face(hidden_act="gelu"), "hidden_act 'gelu'")
        self.check(self.hugging_face(model_type="mistral", sliding_window=4096), "sliding_window 4096", "--layers")
        yarn = {"rope_type": "yarn", "factor": 2.0}
        self.check(self.hugging_face(rope_scaling=yarn), "rope_scaling type 'yarn'", "default, linear and llama3")

    def test_config(self):
        self.check(self.hugging_face(hidden_size=None), "key 'hidden_size' is missing")
        self.check(self.hugging_face(hidden_size="24"), "key 'hidden_size': expected an integer, found \"24\"")
        self.check(self.hugging_face(hidden_size=0), "embedding length", "found 0")
        self.check(self.hugging_face(num_key_value_heads=3), "multiple of key/value heads (4 vs 3)")
        self.check(self.hugging_face(num_hidden_layers=2**40), "number of layers")
        self.check(self.hugging_face(tie_word_embeddings=1), "tie_word_embeddings", "true or false")
        self.check(self.hugging_face(head_dim=5), "rotary dimensions", "found 5")
        for value in (0, -1.0, 1e40):
            self.check(self.hugging_face(rope_theta=value), "rope theta")
            self.check(self.hugging_face(rope_scaling={"type": "linear", "factor": value}), "rope scaling factor")
            self.check(self.hugging_face(rms_norm_eps=value), "epsilon")
            for key in ("factor", "low_freq_factor", "original_max_position_embeddings"):
                self.check(self.hugging_face(rope_scaling=LLAMA3 | {key: value}), "rope scaling")
        self.check(self.hugging_face(rope_scaling=LLAMA3 | {"high_freq_factor": 1.0}), "rope scaling")
        for rotary_dim in (8, 3):
            path = self.gguf(sizes=Sizes(rotary_dim=rotary_dim), architecture="qwen2")
            self.check(path, "rotary dimensions", f"found {rotary_dim}")

    def test_longgen(self):
        def check(keys: object, *expected: str):
            self.check(self.hugging_face(longgen=keys), "config.json", *expected)

        check([], "longgen: expected an object, found []")
        check({}, "longgen.variant: expected as or bs, found ''")
        check({"variant": 1}, "longgen.variant: expected as or bs, found 1")
        check({"variant": "as", "window": 3}, "longgen.window: no such key; expected one of variant, block_size")
        check({"variant": "as", "window_blocks": "3"}, "longgen.window_blocks: expected an integer, found \"3\"")
        check({"variant": "as", "window_blocks": 2**64 - 1}, "longgen.window_blocks: expected an integer")
        check({"variant": "as", "window_blocks": 0}, "longgen.window_blocks: expected an integer from 1 to", "found 0")
        check({"variant": "as", "block_size": -64}, "longgen.block_size: expected an integer from 1 to", "found -64")
        check({"variant": "as", "stride_blocks": 4}, "longgen.stride_blocks: expected 0 for the variant as, found 4")
        check({"variant": "as", "head_shift": 4}, "longgen.head_shift: expected 0 for the variant as, found 4")
        check({"variant": "bs", "stride_blocks": 0}, "longgen.stride_blocks: expected at least 1 for the variant bs")
        check({"variant": "as", "n_full": 3}, "longgen.n_full: expected at most 2 (layers), found 3")
        check({"variant": "as", "n_full": 1, "lo": 2}, "longgen.lo: expected at most 1 (layers less n_full), found 2")

    def test_files(self):
        path = self.hugging_face(shards=2)
        (path / "model-00002-of-00002.safetensors").unlink()
        self.check(path, "model-00002-of-00002.safetensors")
        for damage in (lambda whole: whole[: len(whole) // 2], lambda whole: struct.pack("<Q", 2**60) + whole[8:]):
            path = self.hugging_face()
            weights = path / "model.safetensors"
            weights.write_bytes(damage(weights.read_bytes()))
            self.check(path, "model.safetensors")


unittest.main(argv=sys.argv[:1] + sys.argv[2:])
