"""perpend.plan(): what a mask costs, without running it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch

from . import _native
from ._bindings import Bound, TileMap
from ._mask import MaskLike, as_mask

_DTYPES = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16", torch.float64: "f64"}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a call of :func:`perpend.attention` amounts to, on a device's tiling; ``str()`` is a table.

    Attributes:
        mask: text of the mask.
        live_pairs: visible (query, key) pairs of all query heads of one sequence.
        computed_pairs: pairs that the kernel computes for them, padding of tiles included.
        total_pairs: q_len * kv_len * num_q_heads.
        full_tiles, partial_tiles: tiles without and with a bitmap.
        bitmaps: distinct bitmaps of the partial tiles.
        q_tile, k_tile: positions of a tile.
        plan_ms: time to plan the forward pass.
        flops: of the forward pass on live pairs (two products, two operations a multiply-add).
        kv_bytes: keys and values that a cache has to hold after these tokens, in one layer.
        kv_bytes_all: the same if nothing could be dropped.
    """

    mask: str
    live_pairs: int
    computed_pairs: int
    total_pairs: int
    full_tiles: int
    partial_tiles: int
    bitmaps: int
    q_tile: int
    k_tile: int
    plan_ms: float
    flops: float
    kv_bytes: int
    kv_bytes_all: int

    @property
    def density(self) -> float:
        """Live pairs of all pairs, 0 to 1."""
        return self.live_pairs / self.total_pairs if self.total_pairs else 0.0

    @property
    def efficiency(self) -> float:
        """Live pairs of computed pairs, 0 to 1."""
        return self.live_pairs / self.computed_pairs if self.computed_pairs else 1.0

    def __str__(self) -> str:
        rows = [
            ("mask", self.mask),
            ("live pairs", f"{self.live_pairs:,} of {self.total_pairs:,} ({self.density:.2%})"),
            ("computed", f"{self.computed_pairs:,} pairs ({self.efficiency:.1%} of them live)"),
            (
                "tiles",
                f"{self.full_tiles:,} full, {self.partial_tiles:,} partial of {self.q_tile} x {self.k_tile}, "
                f"{self.bitmaps:,} distinct bitmaps",
            ),
            ("planned in", f"{self.plan_ms:.3f} ms"),
            ("forward", f"{self.flops / 1e9:,.2f} GFLOP"),
            ("KV kept", f"{self.kv_bytes / 2**20:,.1f} MiB of {self.kv_bytes_all / 2**20:,.1f} MiB"),
        ]
        return "\n".join(f"{name:<11} {value}" for name, value in rows)


def plan(
    mask: MaskLike,
    q_len: int,
    kv_len: int | None = None,
    *,
    num_q_heads: int = 1,
    num_kv_heads: int | None = None,
    head_dim: int = 128,
    dtype: torch.dtype = torch.bfloat16,
    device: str | torch.device = "cpu",
    q_offset: int = 0,
    labels: Mapping[str, Bound] | None = None,
    tiles: Mapping[str, TileMap] | None = None,
) -> Plan:
    """Plans a mask for one sequence and reports what it costs; works without a device, at any length.

    Args:
        mask: text or :class:`perpend.Mask`.
        q_len, kv_len: number of queries and keys (default: as many keys as ``q_offset + q_len``).
        num_q_heads, num_kv_heads: heads (default: as many key/value heads as query heads).
        head_dim, dtype: of q, k and v.
        device: whose tiles, ``"cpu"`` or ``"cuda"``; a GPU needs not be there.
        q_offset: position of the first query.
        labels, tiles: what the names in the mask stand for, as in :func:`perpend.attention`.

    Raises:
        ValueError: as :func:`perpend.attention`.
    """
    mask = as_mask(mask).bind(**{**(labels or {}), **(tiles or {})})
    if dtype not in _DTYPES:
        raise ValueError(f"plan: dtype must be float32, bfloat16, float16 or float64, found {dtype}")
    device_type = torch.device(device).type
    if device_type not in ("cpu", "cuda"):
        raise ValueError(f"plan: device must be cpu or cuda, found {device}")
    kv_len = q_offset + q_len if kv_len is None else kv_len
    report = _native.plan(
        mask.text,
        mask.binding_texts,
        mask.arrays,
        (q_len, kv_len, q_offset),
        (num_q_heads, num_q_heads if num_kv_heads is None else num_kv_heads),
        head_dim,
        _DTYPES[dtype],
        device_type,
    )
    return Plan(mask=mask.text, **report)
