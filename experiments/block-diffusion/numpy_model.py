"""SmolLM2 under full attention in float32 with numpy, for looking at what happens inside: keys, values, attention."""

import dataclasses
import json
import pathlib

import numpy as np
from pack_adapter import CONFIG, DOWN, PREFIX, TENSORS, TOKEN_ROWS, UP
from safetensors_file import read_folder


@dataclasses.dataclass
class LayerState:
    keys: np.ndarray  # [tokens, kv heads, head size], turned
    values: np.ndarray  # the same
    attention: np.ndarray  # [heads, rows, tokens], of the rows that were asked for


def read_model(base: pathlib.Path, adapter: pathlib.Path) -> tuple[dict, dict, dict]:
    """(config.json, adapter_config.json, tensors with the adapter merged); `base` is a Hugging Face folder."""
    config, adapted = (json.loads((folder / name).read_text()) for folder, name in ((base, "config.json"), (adapter, CONFIG)))
    tensors = {name: values.astype(np.float32) for name, values in read_folder(base, "model.safetensors").items()}
    stored = read_folder(adapter, TENSORS)

    def value(name: str) -> np.ndarray:
        scale = stored.get(f"{name}.scale")
        return stored[name].astype(np.float32) * (1 if scale is None else scale[:, None])

    for name in stored:
        if name.endswith(DOWN):
            matrix = name.removesuffix(DOWN)
            change = value(matrix + UP) @ value(name) * np.float32(adapted["lora_alpha"] / adapted["r"])
            tensors[matrix.removeprefix(PREFIX) + ".weight"] += change
    if TOKEN_ROWS in stored:
        tensors["model.embed_tokens.weight"][adapted["trainable_token_indices"]["embed_tokens"]] = value(TOKEN_ROWS)
    return config, adapted, tensors


class FullAttentionModel:
    def __init__(self, config: dict, tensors: dict):
        self.tensors = tensors
        self.layers = config["num_hidden_layers"]
        self.heads = config["num_attention_heads"]
        self.kv_heads = config["num_key_value_heads"]
        self.head_dim = config.get("head_dim") or config["hidden_size"] // self.heads
        self.theta = config["rope_theta"]
        self.epsilon = config["rms_norm_eps"]
        self.head = tensors["model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"]

    def run(self, tokens: list[int], rows: list[int]) -> tuple[np.ndarray, list[LayerState]]:
        """(logits of `rows`, what each layer had)"""
        x = self.tensors["model.embed_tokens.weight"][tokens]
        states = []
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}."
            normed = self.norm(x, prefix + "input_layernorm.weight")
            q, k, v = (self.split(normed @ self.tensors[f"{prefix}self_attn.{part}_proj.weight"].T) for part in "qkv")
            q, k = self.turned(q), self.turned(k)
            weights = self.attention(q, k)
            mixed = np.matmul(weights, self.repeated(v)).transpose(1, 0, 2).reshape(len(tokens), -1)
            x = x + mixed @ self.tensors[f"{prefix}self_attn.o_proj.weight"].T
            normed = self.norm(x, prefix + "post_attention_layernorm.weight")
            gate, up = (normed @ self.tensors[f"{prefix}mlp.{part}_proj.weight"].T for part in ("gate", "up"))
            with np.errstate(over="ignore"):  # of gates far below zero, which become zero
                gate /= 1 + np.exp(-gate)
            x = x + (gate * up) @ self.tensors[f"{prefix}mlp.down_proj.weight"].T
            states.append(LayerState(k, v, weights[:, rows]))
        return self.norm(x[rows], "model.norm.weight") @ self.head.T, states

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True) + self.epsilon) * self.tensors[name]

    def split(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), -1, self.head_dim)

    def turned(self, x: np.ndarray) -> np.ndarray:
        half = self.head_dim // 2
        angles = np.arange(len(x))[:, None] * self.theta ** (-np.arange(half) / half)
        cos, sin = (part(angles).astype(np.float32)[:, None] for part in (np.cos, np.sin))
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    def repeated(self, x: np.ndarray) -> np.ndarray:
        """[heads, tokens, head size]"""
        return np.repeat(x.transpose(1, 0, 2), self.heads // self.kv_heads, axis=0)

    def attention(self, q: np.ndarray, k: np.ndarray) -> np.ndarray:
        scores = np.matmul(q.transpose(1, 0, 2), self.repeated(k).transpose(0, 2, 1)) / np.sqrt(self.head_dim, dtype=np.float32)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return weights / weights.sum(axis=-1, keepdims=True)
