"""The workloads of the GPU comparisons: Perpend's mask texts, and the same masks as PyTorch functions."""

import collections.abc
import dataclasses
import json
import pathlib

import torch

ROOT = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    mask: str  # Perpend's text
    function: collections.abc.Callable | None  # (batch, head, query, key) -> bool tensor; None: all
    B: int
    Hq: int
    Hkv: int
    S: int
    D: int
    structured: bool = False
    labels: str = ""

    @property
    def shape(self) -> dict:
        return {key: getattr(self, key) for key in ("B", "Hq", "Hkv", "S", "D", "structured")}


def causal(b, h, q, k):
    return q >= k


def sink_window(sink, window):
    return lambda b, h, q, k: (q >= k) & ((k < sink) | (q - k < window))


def strided_blocks(stride):
    return lambda b, h, q, k: (q >= k) & ((q // 64 - k // 64 < 16) | ((k // 64 + h) % stride == 0))


def upto_block(n):
    return lambda b, h, q, k: q // n >= k // n


def block_diffusion(n, block):
    def visible(b, h, q, k):
        q_clean, k_clean = q >= n, k >= n
        q_block = torch.where(q_clean, q - n, q) // block
        k_block = torch.where(k_clean, k - n, k) // block
        return (((q_block == k_block) & ~q_clean & ~k_clean) | ((q_block > k_block) & k_clean & ~q_clean)
                | ((q_block >= k_block) & k_clean & q_clean))
    return visible


def documents(length, count):
    def visible(b, h, q, k):
        same = (q // length == k // length) | (k // length == 0)
        return (q >= k) & (same | (q >= length * count))
    return visible


# The masks of workloads.json once more.
MASKS = {
    "dense_16k_d128": None,
    "causal_16k_d128": causal,
    "causal_4k_d64": causal,
    "sink_window_32k": sink_window(128, 1024),
    "sink_window_128k": sink_window(128, 2048),
    "strided_blocks_32k": strided_blocks(16),
    "strided_blocks_128k": strided_blocks(64),
    "block_causal_32": upto_block(32),
    "block_diffusion_train_2x4k_b32": block_diffusion(4096, 32),
    "documents_100x160": documents(160, 101),
    "documents_500x200": documents(200, 501),
    "frame_causal_144x32": upto_block(144),
    "window2d_8_side256": lambda b, h, q, k: q // 64 == k // 64,
}
# Dense and causal beside the workloads: (tokens, batch, heads, head_dim).
DENSE = [(16384, 1, 16, 128), (4096, 4, 16, 128), (2048, 8, 16, 128), (32768, 1, 16, 128),
         (16384, 1, 32, 64), (4096, 4, 32, 64), (16384, 1, 8, 256)]


def of_file() -> list[Workload]:
    """Those of workloads.json, structured ones and others."""
    lines = json.loads((ROOT / "workloads.json").read_text())["gpu_bf16"]
    labels = ["; ".join(f"{key} = {value}" for key, value in line.pop("labels", {}).items()) for line in lines]
    return [Workload(function=MASKS[line["name"]], labels=label, **line) for line, label in zip(lines, labels)]


def dense(shapes=tuple(DENSE)) -> list[Workload]:
    return [Workload(f"{name}_{batch}x{tokens}_d{dim}", text, function, batch, heads, heads, tokens, dim)
            for tokens, batch, heads, dim in shapes
            for name, text, function in (("dense", "all", None), ("causal", "causal", causal))]


def growing(sizes=tuple(8192 << i for i in range(8))) -> list[Workload]:
    """One mask at growing lengths, the time of whose live pairs should stay the same."""
    return [Workload(f"sink_window_{tokens // 1024}k", "causal & (sink(128) | window(2048))",
                     sink_window(128, 2048), 1, 8, 8, tokens, 128) for tokens in sizes]


def visible(function, head: int, rows, keys):
    """[rows, keys]: what the function says of a head."""
    head = torch.tensor(head, device=rows.device)
    return function(0, head, rows[:, None], keys[None, :]).expand(len(rows), len(keys))
