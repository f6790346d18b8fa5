"""Weights to begin with, as a folder that `perpend train` reads, needing numpy alone."""

import json
import os
import pathlib
import shutil
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "common"))
from safetensors_file import write_safetensors

# Of the embedding, beside what a layer adds (0.1 to 0.2 at first). At the usual 0.02 the first layer drowns the tokens, and
# layers above see through noise which token is which.
EMBEDDING_DEVIATION = 0.5


def matrix_deviation(model_dim: int) -> float:
    """The usual 0.02 at a width of 512; rows of other widths give numbers as large."""
    return 0.02 * (512 / model_dim) ** 0.5


def write_initial_model(folder: pathlib.Path, shape: dict, seed: int) -> None:
    """Of a Llama of `shape` (keys of config.json). The folder appears whole or not at all."""
    rng = np.random.default_rng(seed)
    dim, ffn = shape["hidden_size"], shape["intermediate_size"]

    def normal(rows: int, columns: int, deviation: float = matrix_deviation(dim)) -> np.ndarray:
        return np.float32(deviation) * rng.standard_normal((rows, columns), np.float32)

    tensors = {
        "model.embed_tokens.weight": normal(shape["vocab_size"], dim, EMBEDDING_DEVIATION),
        "model.norm.weight": np.ones(dim, np.float32),
        "lm_head.weight": normal(shape["vocab_size"], dim),
    }
    for layer in range(shape["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        tensors |= {f"{name}.self_attn.{part}_proj.weight": normal(dim, dim) for part in "qkvo"}
        tensors |= {f"{name}.mlp.{part}_proj.weight": normal(ffn, dim) for part in ("gate", "up")}
        tensors[f"{name}.mlp.down_proj.weight"] = normal(dim, ffn)
        tensors |= {f"{name}.{norm}_layernorm.weight": np.ones(dim, np.float32) for norm in ("input", "post_attention")}
    staging = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    write_safetensors(staging / "model.safetensors", tensors)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        **shape,
    }
    (staging / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    os.replace(staging, folder)
