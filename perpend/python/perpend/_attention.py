"""perpend.attention()."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Union

import torch

from . import _operators  # noqa: F401, registers torch.ops.perpend
from ._bindings import Bound, TileMap, merge, on_host, pack
from ._mask import Mask, MaskLike

Masks = Union[MaskLike, Sequence[MaskLike]]

_FROM_TEXTS = torch.ops.perpend.attention.default
_BY_VALUES = torch.ops.perpend.attention.by_values


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: Masks = "all",
    *,
    labels: Mapping[str, Bound] | None = None,
    tiles: Mapping[str, TileMap] | None = None,
    scale: float | None = None,
    soft_cap: float | None = None,
    alibi_slopes: torch.Tensor | None = None,
    q_indptr: torch.Tensor | None = None,
    kv_indptr: torch.Tensor | None = None,
    q_offset: int | Sequence[int] | torch.Tensor = 0,
    return_lse: bool = False,
    enable_gqa: bool = True,
    deterministic: bool = True,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """softmax(scale * q k^T) v over the pairs of a mask, with gradients; the layout is SDPA's.

    Args:
        q: ``[batch, num_q_heads, q_len, head_dim]``, or ``[total_q, num_q_heads, head_dim]`` in a ragged
            batch. On the CPU float32, bfloat16 or float16, or all operands float64; on a GPU all operands
            bfloat16 or float16. head_dim 1 to 256.
        k, v: ``[batch, num_kv_heads, kv_len, head_dim]``, or ``[total_kv, num_kv_heads, head_dim]``, of
            one dtype. num_q_heads is a multiple of num_kv_heads. Any strides; only a tensor whose last
            axis is not contiguous is copied.
        mask: text, a :class:`Mask`, or a list with one for each sequence. Positions are absolute: key c
            stands at position c, query r at ``q_offset + r``. With ``q_len != kv_len`` and no q_offset a
            causal mask is therefore aligned at the first key, as in SDPA.
        labels: what the names in the mask stand for: label texts (``"segments(160*100)"``) or integer
            tensors of one label a position, ``[positions]``, ``[batch, positions]``, or ``[total_kv]`` in
            a ragged batch. A changed array is a new one: plans are kept by value. Best on the CPU (see below).
        tiles: tile maps for ``tiles(name)``.
        scale: multiplier of q k^T; default ``head_dim ** -0.5``.
        soft_cap: s becomes ``soft_cap * tanh(s / soft_cap)``.
        alibi_slopes: float32 ``[num_q_heads]``: s becomes ``s - slope * |q position - k position|``, after
            the cap. On the device of q. No gradient.
        q_indptr, kv_indptr: integer ``[batch + 1]`` from 0 to the number of tokens, for a ragged batch. Best
            on the CPU (see below).
        q_offset: position of the first query, or one for each sequence (a list or an integer tensor).
            Decoding one token after n cached keys: n.
        return_lse: also return the logsumexp of each row, natural log.
        enable_gqa: false to refuse fewer key/value heads than query heads, as SDPA does by default.
        deterministic: false to let a GPU sum the gradient of q in any order, which is faster (Hopper, head_dim 33
            to 128, no change of scores): its last bits then differ from run to run. Under
            ``torch.use_deterministic_algorithms(True)`` it is always true.

    Returns:
        o as q; with `return_lse` also lse ``[batch, num_q_heads, q_len]`` or ``[num_q_heads, total_q]``,
        float32 (float64 with float64). A query without a visible key has o = 0, lse = -inf and zero
        gradients. Bitwise equal from run to run and for any number of threads (gradients: see `deterministic`).

    On a GPU the call runs on the current stream of q's device, without waiting for it, and may be captured
    into a CUDA graph, which keeps what it needs of the plan. Plans are made on the CPU: indptrs, labels, tile
    maps and tensors of offsets that are on a GPU are copied from it, which waits for the GPU each time, and are
    refused while a graph is being captured.

    Raises:
        ValueError: the mask's text, with the column and what was expected there.
        TypeError: a mask that is not text, a :class:`Mask` or a list of them.
        RuntimeError: shapes, dtypes, names that are not bound, labels that do not cover the sequence, and
            what this build or device does not support.
        NotImplementedError: second derivatives, and those of forward mode.
    """
    if not enable_gqa and q.size(1) != k.size(1):
        raise ValueError(f"attention: heads of q and k differ ({q.size(1)} vs {k.size(1)}); give enable_gqa=True")
    if alibi_slopes is not None and alibi_slopes.requires_grad:
        raise ValueError("attention: alibi_slopes can not have a gradient; detach them")
    text, sequence_masks, bindings, arrays = _arguments(mask, labels, tiles)
    if not torch.compiler.is_compiling():
        _operators.check_texts(text, sequence_masks)
    op = _FROM_TEXTS
    inputs = [*autocast(q, k, v), text, alibi_slopes]
    if arrays or q_indptr is not None or kv_indptr is not None:
        op = _BY_VALUES
        inputs += [_as_indptr(q_indptr, "q_indptr"), _as_indptr(kv_indptr, "kv_indptr"), arrays]
    # A call costs microseconds, each option that is left to its default a part of one.
    options = {}
    if sequence_masks is not None:
        options["sequence_masks"] = sequence_masks
    if bindings:
        options["bindings"] = bindings
    if offsets := _as_offsets(q_offset):
        options["q_offset"] = offsets
    if scale is not None:
        options["scale"] = scale
    if soft_cap is not None:
        options["soft_cap"] = soft_cap
    if not _operators.is_deterministic(deterministic):
        options["deterministic"] = False
    o, lse = _operators.call(op, inputs, options)
    return (o, lse) if return_lse else o


def _arguments(
    mask: Masks, labels: Mapping[str, Bound] | None, tiles: Mapping[str, TileMap] | None
) -> tuple[str, list[str] | None, list[str], list[torch.Tensor]]:
    """Mask and names as the operator takes them: text, texts by sequence, bindings, arrays."""
    if isinstance(mask, str):
        text, sequence_masks, bindings, arrays = mask, None, [], []
    elif isinstance(mask, Mask):
        text, sequence_masks, bindings, arrays = mask.text, None, mask.binding_texts, mask.arrays
    else:
        if not isinstance(mask, (list, tuple)) or not all(isinstance(m, (str, Mask)) for m in mask):
            raise TypeError(
                "attention: mask must be text, a perpend.Mask or a list of them (for a BlockMask see "
                f"perpend.from_flex), found {type(mask).__name__}"
            )
        text = "all"
        sequence_masks = [m.text if isinstance(m, Mask) else m for m in mask]
        if not sequence_masks:
            raise ValueError("attention: the list of masks is empty; give one mask, or one for each sequence")
        bindings, arrays = pack(merge([m.bound for m in mask if isinstance(m, Mask)]))
    for names in (tiles, labels):
        if names is not None:
            more_bindings, more_arrays = pack(names)
            bindings, arrays = bindings + more_bindings, arrays + more_arrays
    return text, sequence_masks, bindings, arrays


def _as_indptr(indptr: torch.Tensor | None, name: str) -> torch.Tensor | None:
    return None if indptr is None else on_host(indptr, name).to(torch.int32)


def _as_offsets(q_offset: int | Sequence[int] | torch.Tensor) -> list[int]:
    if isinstance(q_offset, int):
        return [q_offset] if q_offset else []
    if isinstance(q_offset, torch.Tensor):
        return on_host(q_offset, "q_offset").reshape(-1).tolist()
    if isinstance(q_offset, Sequence):
        return list(q_offset)
    return [q_offset]  # a symbol of torch.compile


def autocast(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor):
    """Under torch.autocast operands are cast as SDPA's are."""
    device = q.device.type
    if not torch.is_autocast_enabled(device):
        return q, k, v
    dtype = torch.get_autocast_dtype(device)
    return tuple(x if x.dtype == torch.float64 else x.to(dtype) for x in (q, k, v))
