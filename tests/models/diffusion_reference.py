"""Diffusion language models in float32, written out from their papers: whole canvases, nothing cached.

Weights go by their published names. The samplers are those of Fast-dLLM v2 (section 2.5), NBDiff (section 2.4), LLaDA
with confidence decoding, and the caches of Fast-dLLM v1, each with one model call over all tokens that it may see."""

import numpy as np

NAMES = {
    "llada": {
        "embed": "model.transformer.wte",
        "norm": "model.transformer.ln_f",
        "head": "model.transformer.ff_out",
        "layer": "model.transformer.blocks.{}.",
        "norm1": "attn_norm",
        "norm2": "ff_norm",
        "q": "q_proj",
        "k": "k_proj",
        "v": "v_proj",
        "o": "attn_out",
        "gate": "ff_proj",
        "up": "up_proj",
        "down": "ff_out",
    },
    "qwen": {
        "embed": "model.embed_tokens",
        "norm": "model.norm",
        "head": "lm_head",
        "layer": "model.layers.{}.",
        "norm1": "input_layernorm",
        "norm2": "post_attention_layernorm",
        "q": "self_attn.q_proj",
        "k": "self_attn.k_proj",
        "v": "self_attn.v_proj",
        "o": "self_attn.o_proj",
        "gate": "mlp.gate_proj",
        "up": "mlp.up_proj",
        "down": "mlp.down_proj",
    },
}


class Network:
    """logits(tokens, mask): the rows of a whole canvas; hidden states of all layers stay in `keys` and `values`."""

    def __init__(self, config: dict, tensors: dict[str, np.ndarray]):
        self.tensors = tensors
        self.names = NAMES["llada" if config["model_type"] == "llada" else "qwen"]
        self.layers = config.get("num_hidden_layers", config.get("n_layers"))
        self.heads = config.get("num_attention_heads", config.get("n_heads"))
        self.kv_heads = config.get("num_key_value_heads", config.get("n_kv_heads"))
        self.theta, self.epsilon = config["rope_theta"], config["rms_norm_eps"]
        self.keys, self.values = [None] * self.layers, [None] * self.layers

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        y = x @ self.tensors[f"{name}.weight"].T
        return y + self.tensors[f"{name}.bias"] if f"{name}.bias" in self.tensors else y

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(self.epsilon)) * self.tensors[f"{name}.weight"]

    def rotate(self, x: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Half-split: value i turns with value i + head_dim / 2."""
        half = x.shape[-1] // 2
        angles = positions[:, None] * self.theta ** (-np.arange(half) / half)
        cos, sin = np.cos(angles).astype(np.float32)[:, None], np.sin(angles).astype(np.float32)[:, None]
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    def logits(self, tokens: list[int], mask: np.ndarray, rows: list[int] | None = None) -> np.ndarray:
        """[rows, vocab] under a boolean mask [row, key]. Without `rows` all tokens are computed; with them only those
        rows, and the keys of all others are what an earlier call left behind."""
        positions = np.arange(len(tokens)) if rows is None else np.array(rows)
        x = self.tensors[self.names["embed"] + ".weight"][np.array(tokens)[positions]]
        for layer in range(self.layers):
            prefix = self.names["layer"].format(layer)
            name = {role: prefix + self.names[role] for role in ("norm1", "norm2", *"qkvo", "gate", "up", "down")}
            h = self.norm(name["norm1"], x)
            q = self.rotate(self.linear(name["q"], h).reshape(len(h), self.heads, -1), positions)
            k = self.rotate(self.linear(name["k"], h).reshape(len(h), self.kv_heads, -1), positions)
            v = self.linear(name["v"], h).reshape(len(h), self.kv_heads, -1)
            if rows is None:
                self.keys[layer], self.values[layer] = k, v
            else:
                self.keys[layer][positions], self.values[layer][positions] = k, v
            k, v = self.keys[layer][: mask.shape[1]], self.values[layer][: mask.shape[1]]
            group = self.heads // self.kv_heads
            scores = np.einsum("qhd,khd->hqk", q, k.repeat(group, 1)) / np.float32(np.sqrt(q.shape[-1]))
            scores = np.where(mask, scores, -np.inf)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            seen = np.einsum("hqk,khd->qhd", weights, v.repeat(group, 1)).reshape(len(h), -1)
            x = x + self.linear(name["o"], seen)
            h = self.norm(name["norm2"], x)
            gate = self.linear(name["gate"], h)
            x = x + self.linear(name["down"], gate / (1 + np.exp(-gate)) * self.linear(name["up"], h))
        x = self.norm(self.names["norm"], x)
        head = self.names["head"] + ".weight"
        return x @ self.tensors[head if head in self.tensors else self.names["embed"] + ".weight"].T


def block_causal(length: int, block: int) -> np.ndarray:
    b = np.arange(length) // block
    return b[None, :] <= b[:, None]


def full(length: int) -> np.ndarray:
    return np.ones((length, length), bool)


def causal(length: int) -> np.ndarray:
    return np.tril(full(length))


def block_decode(length: int, start: int) -> np.ndarray:
    """NBDiff: everything final is causal, the open block [start, length) sees all of itself."""
    mask = causal(length)
    mask[start:, start:] = True
    return mask
