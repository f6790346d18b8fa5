"""The Llama family in float64, written from the papers: one token after another, nothing cached."""

import dataclasses

import numpy as np


@dataclasses.dataclass
class Sizes:
    """A tiny model; the defaults are those of the least remarkable one."""

    vocab: int = 61
    dim: int = 24
    ffn: int = 40
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 6
    rotary_dim: int = 0  # 0: all of head_dim
    context: int = 512
    epsilon: float = 1e-5
    theta: float = 10000.0
    tied: bool = False
    biases: tuple[str, ...] = ()  # of "q", "k", "v", "o", "gate", "up", "down"
    scaling: dict | None = None  # as Hugging Face's rope_scaling

    def __post_init__(self):
        self.rotary_dim = self.rotary_dim or self.head_dim

    def shapes(self) -> dict[str, tuple[int, ...]]:
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        matrices = {
            "q": (q, self.dim),
            "k": (kv, self.dim),
            "v": (kv, self.dim),
            "o": (self.dim, q),
            "gate": (self.ffn, self.dim),
            "up": (self.ffn, self.dim),
            "down": (self.dim, self.ffn),
        }
        shapes = {"embedding": (self.vocab, self.dim), "final_norm": (self.dim,)}
        if not self.tied:
            shapes["head"] = (self.vocab, self.dim)
        for layer in range(self.layers):
            shapes |= {f"{layer}.{name}": shape for name, shape in matrices.items()}
            shapes |= {f"{layer}.{name}.bias": matrices[name][:1] for name in self.biases}
            shapes |= {f"{layer}.attention_norm": (self.dim,), f"{layer}.mlp_norm": (self.dim,)}
        return shapes


def random_weights(sizes: Sizes, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Large enough that every part of the network shows in the logits."""
    weights = {}
    for name, shape in sizes.shapes().items():
        values = rng.standard_normal(shape)
        weights[name] = (1 + 0.3 * values if "norm" in name else 0.4 * values).astype(np.float32)
    return weights


def frequencies(sizes: Sizes) -> np.ndarray:
    """RoFormer's, stretched as arXiv:2306.15595 or Llama 3.1 do."""
    result = sizes.theta ** -(np.arange(0, sizes.rotary_dim, 2) / sizes.rotary_dim)
    scaling = sizes.scaling or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "linear":
        return result / scaling["factor"]
    if kind == "llama3":
        turns = scaling["original_max_position_embeddings"] * result / (2 * np.pi)
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        kept = np.clip((turns - low) / (high - low), 0, 1)
        return result * kept + result / scaling["factor"] * (1 - kept)
    return result


def rotate(x: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """x [tokens, heads, head_dim]: value i turns with value i + rotary_dim / 2."""
    half = angles.shape[1]
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin, rest], -1)


@dataclasses.dataclass
class Trace:
    """What a pass computes."""

    logits: np.ndarray  # [tokens, vocab]
    q: list[np.ndarray]  # of each layer, turned: [tokens, heads, head_dim]
    k: list[np.ndarray]  # [tokens, kv_heads, head_dim]


def trace_of(
    sizes: Sizes, weights: dict, tokens: list[int], masks: list[np.ndarray], positions: list[int] | None = None
) -> Trace:
    """Under one boolean mask [query, key] a layer; positions are what the rotary embedding takes."""
    weights = {name: np.asarray(value, np.float64) for name, value in weights.items()}

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return x @ weights[name].T + weights.get(f"{name}.bias", 0)

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + sizes.epsilon) * weights[name]

    def heads(x: np.ndarray, count: int) -> np.ndarray:
        return x.reshape(len(tokens), count, sizes.head_dim)

    positions = np.arange(len(tokens)) if positions is None else np.array(positions)
    angles = positions[:, None] * frequencies(sizes)
    group = sizes.heads // sizes.kv_heads
    trace = Trace(np.empty(0), [], [])
    x = weights["embedding"][tokens]
    for layer, mask in enumerate(masks):
        h = norm(f"{layer}.attention_norm", x)
        q = rotate(heads(linear(f"{layer}.q", h), sizes.heads), angles)
        k = rotate(heads(linear(f"{layer}.k", h), sizes.kv_heads), angles)
        trace.q.append(q)
        trace.k.append(k)
        v = heads(linear(f"{layer}.v", h), sizes.kv_heads).repeat(group, 1)
        scores = np.einsum("qhd,khd->hqk", q, k.repeat(group, 1)) / np.sqrt(sizes.head_dim)
        scores = np.exp(np.where(mask, scores, -np.inf) - np.where(mask, scores, -np.inf).max(-1, keepdims=True))
        attended = np.einsum("hqk,khd->qhd", scores / scores.sum(-1, keepdims=True), v)
        x = x + linear(f"{layer}.o", attended.reshape(len(tokens), -1))
        h = norm(f"{layer}.mlp_norm", x)
        gate = linear(f"{layer}.gate", h)
        x = x + linear(f"{layer}.down", gate / (1 + np.exp(-gate)) * linear(f"{layer}.up", h))
    trace.logits = norm("final_norm", x) @ weights["embedding" if sizes.tied else "head"].T
    return trace


def logits_of(sizes: Sizes, weights: dict, tokens: list[int], masks: list[np.ndarray]) -> np.ndarray:
    """[tokens, vocab] under one boolean mask [query, key] a layer."""
    return trace_of(sizes, weights, tokens, masks).logits
