"""Tiny checkpoints of the published families: what make_family_goldens.py gives to `transformers` and
llama_oracle_test.py to us. The weights are drawn from the seed, so that both have the same."""

import hashlib
import pathlib
from typing import NamedTuple

import numpy as np
from llama_files import write_hugging_face
from llama_reference import Sizes, random_weights

GOLDENS = pathlib.Path(__file__).with_name("family_goldens.json")
LENGTH = 48


class Family(NamedTuple):
    name: str
    sizes: Sizes
    model_type: str
    config: dict
    shards: int


FAMILIES = [
    Family("llama-2", Sizes(heads=4, kv_heads=4), "llama", {"rope_scaling": None, "pretraining_tp": 1}, 2),
    Family("llama-2-70b", Sizes(layers=3, heads=8, kv_heads=1, head_dim=8, dim=64), "llama", {"rope_scaling": None}, 3),
    Family("mistral", Sizes(heads=6, kv_heads=2, head_dim=8, dim=40), "mistral", {"sliding_window": None}, 2),
    Family(
        "qwen2.5",
        Sizes(heads=6, kv_heads=2, head_dim=8, dim=48, biases=("q", "k", "v"), theta=1e6, epsilon=1e-6),
        "qwen2",
        {"sliding_window": 8, "use_sliding_window": False},
        2,
    ),
    Family("qwen2.5, one table", Sizes(biases=("q", "k", "v"), tied=True), "qwen2", {"use_sliding_window": False}, 1),
]


def write_family(folder: pathlib.Path, index: int) -> tuple[list[int], str]:
    """Writes the checkpoint into `folder`. The tokens to run, and a digest of tokens and weights."""
    family = FAMILIES[index]
    rng = np.random.default_rng(20261127 + index)
    weights = random_weights(family.sizes, rng)
    tokens = rng.integers(0, family.sizes.vocab, LENGTH).tolist()
    write_hugging_face(folder, family.sizes, weights, family.model_type, shards=family.shards, **family.config)
    digest = hashlib.sha256(bytes(tokens))
    for values in weights.values():
        digest.update(values.tobytes())
    return tokens, digest.hexdigest()
