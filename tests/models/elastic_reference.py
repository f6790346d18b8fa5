"""Elastic-Cache (arXiv:2510.14973, section 2.2) in float32, written out step by step and layer by layer."""

import dataclasses

import numpy as np
from diffusion_reference import Network
from diffusion_samplers import Answer, Rule, cut, ended, proposals, tokens_of


@dataclasses.dataclass
class Setting:
    window: int
    gamma: float
    metric: str = "heads"
    num_tracked: int = 1
    refresh_always: bool = False


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class Cache:
    def __init__(self, net: Network, length: int):
        self.net, self.length = net, length
        dim = net.tensors[net.names["embed"] + ".weight"].shape[1]
        self.x = [np.zeros((length, dim), np.float32) for _ in range(net.layers)]
        self.q, self.k, self.v = ([None] * net.layers for _ in range(3))
        self.tracked: list[int] = []
        self.boundaries: list[int] = []
        self.rows = 0

    def weights(self, layer: int, q: np.ndarray, k: np.ndarray) -> np.ndarray:
        """[heads, rows, keys]"""
        group = self.net.heads // self.net.kv_heads
        return softmax(np.einsum("qhd,khd->hqk", q, k.repeat(group, 1)) / np.float32(np.sqrt(q.shape[-1])))

    def similarity(self, metric: str, old: np.ndarray, new: np.ndarray) -> float:
        axis = 0 if metric == "heads" else 2
        return ((old * new).sum(axis) / np.linalg.norm(old, axis=axis) / np.linalg.norm(new, axis=axis)).mean()

    def step(self, tokens: list[int], masked: list[int], fresh: list[int], wanted: list[int], setting: Setting, first: bool):
        """Logits of the wanted rows."""
        net, everything = self.net, list(range(self.length))
        query = everything if first else sorted(set(self.tracked) | set(fresh) | set(wanted))
        start = -1 if first else net.layers
        h = net.tensors[net.names["embed"] + ".weight"][np.array(tokens)[query]]
        union, boundary = set(), 0 if first else net.layers
        for layer in range(net.layers):
            prefix = net.names["layer"].format(layer)
            name = {role: prefix + net.names[role] for role in ("norm1", "norm2", *"qkvo", "gate", "up", "down")}
            if layer > start:
                self.x[layer] = h.copy()
            else:
                self.x[layer][query] = h
                if layer == start:
                    h, query = self.x[layer].copy(), everything
            at = np.array(query)
            n = net.norm(name["norm1"], h)
            q = net.rotate(net.linear(name["q"], n).reshape(len(n), net.heads, -1), at)
            k = net.rotate(net.linear(name["k"], n).reshape(len(n), net.kv_heads, -1), at)
            v = net.linear(name["v"], n).reshape(len(n), net.kv_heads, -1)
            tests_drift = layer < start and self.tracked
            if layer >= start:
                self.q[layer], self.k[layer], self.v[layer] = q, k, v
            else:
                if tests_drift:
                    old = self.weights(layer, self.q[layer][self.tracked], self.k[layer])
                self.q[layer][query], self.k[layer][query], self.v[layer][query] = q, k, v
            a = self.weights(layer, q, self.k[layer])
            seen = np.einsum("hqk,khd->qhd", a, self.v[layer].repeat(net.heads // net.kv_heads, 1))
            h = h + net.linear(name["o"], seen.reshape(len(h), -1))
            n = net.norm(name["norm2"], h)
            gate = net.linear(name["gate"], n)
            h = h + net.linear(name["down"], gate / (1 + np.exp(-gate)) * net.linear(name["up"], n))
            self.rows += len(query)
            if tests_drift and self.similarity(setting.metric, old, a[:, [query.index(t) for t in self.tracked]]) < setting.gamma:
                start = boundary = layer + 1
            score = a[:, [query.index(w) for w in wanted]].sum((0, 1))
            score[masked] = 0
            union |= set(sorted(everything, key=lambda i: (-score[i], i))[: setting.num_tracked])
        self.tracked = sorted(union)
        self.boundaries.append(boundary)
        h = net.norm(net.names["norm"], h[[query.index(w) for w in wanted]])
        return h @ net.tensors[net.names["head"] + ".weight"].T


def elastic(net: Network, prompt: list[int], length: int, rule: Rule, mask_id: int, stop: int, shifted: bool, setting: Setting):
    """The answer and the cache that it was made with."""
    canvas = list(prompt) + [None] * length
    cache, answer = Cache(net, len(canvas)), Answer([])
    end, fresh, first = len(canvas), [], True
    while not ended(canvas, len(prompt), len(canvas), stop):
        masked = [i for i, token in enumerate(canvas) if token is None]
        window = [i for i in masked if i < end][: setting.window]
        wanted = [i - shifted for i in window]
        logits = cache.step(tokens_of(canvas, mask_id), masked, fresh, wanted, setting, first or setting.refresh_always)
        tokens, confidences = proposals(logits, mask_id)
        order = sorted(range(len(window)), key=lambda i: (-confidences[i], i))
        fresh = [window[i] for i in order[: rule.count([confidences[i] for i in order], len(masked), answer.forwards)]]
        for i in fresh:
            canvas[i] = int(tokens[window.index(i)])
            if canvas[i] == stop:
                end = min(end, i + 1)
        answer.forwards, first = answer.forwards + 1, False
    answer.tokens = cut(canvas, len(prompt), len(canvas), stop)
    return answer, cache
