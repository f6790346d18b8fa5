"""perpend.block_attention()."""

from __future__ import annotations

import torch

from . import _operators
from ._attention import autocast


def block_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    block_indices: torch.Tensor,
    *,
    block_size: int = 64,
    q_block_size: int | None = None,
    block_counts: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    soft_cap: float | None = None,
    alibi_slopes: torch.Tensor | None = None,
    q_offset: int = 0,
    return_lse: bool = False,
    deterministic: bool = True,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """softmax(scale * q k^T) v in which each block of queries sees the blocks of keys that a list names.

    For lists that a model or a measurement chooses anew in each step, as in MoBA (arXiv:2502.13189), NSA
    (arXiv:2502.11089), or sparse video attention: top-k block indices go in as they come out of ``torch.topk``. On a
    GPU they never come to the host; forward and backward are planned there.

    Args:
        q: ``[batch, num_q_heads, q_len, head_dim]``; dtypes and devices as :func:`perpend.attention`.
        k, v: ``[batch, num_kv_heads, kv_len, head_dim]``.
        block_indices: int32 or int64 ``[batch, heads, num_q_blocks, max_blocks]`` on the device of q, where heads are
            num_kv_heads, num_q_heads, or 1 for lists that all heads share, and num_q_blocks is q_len / q_block_size,
            rounded up. Key block b holds the keys from ``b * block_size`` on. Any order; what stands twice counts
            once, what is no block (-1 as padding, or one beyond the last) not at all. No gradient.
        block_size: keys of a block. On a GPU 16, 32, 64 or a multiple of 128 (of 64 from head_dim 129 on).
        q_block_size: queries that share a list; default: block_size. Lists for each query are 1. On a GPU multiples of
            64 are fast, and 16 and 32 where query heads share lists and key blocks have 64 keys or more; with others
            its tiles are not full.
        block_counts: integer ``[batch, heads, num_q_blocks]``: how many entries of each list count; default: all.
        causal: of the blocks, only keys at or before the query's position count.
        scale, soft_cap, alibi_slopes, return_lse, deterministic: as :func:`perpend.attention`.
        q_offset: position of the first query.

    Returns:
        o as q; with `return_lse` also lse ``[batch, num_q_heads, q_len]``. A query whose list is empty has o = 0,
        lse = -inf and zero gradients.

    On a GPU a call may be captured into a CUDA graph, and is in those of ``torch.compile``: each replay runs what the
    lists hold by then. What does not depend on them is made at the first call of a shape. On the CPU the lists are
    read and become a mask, as if it were given to :func:`perpend.attention`.

    Raises:
        RuntimeError: shapes, dtypes, and what this build or device does not support.
        NotImplementedError: second derivatives, and those of forward mode.
    """
    if block_indices.is_floating_point() or block_indices.dtype == torch.bool:
        raise ValueError(f"block attention: block_indices must be integers, found {block_indices.dtype}")
    if alibi_slopes is not None and alibi_slopes.requires_grad:
        raise ValueError("attention: alibi_slopes can not have a gradient; detach them")
    inputs = [*autocast(q, k, v), _as_int32(block_indices), _as_int32(block_counts), alibi_slopes]
    options = {
        "block_size": block_size,
        "q_block_size": block_size if q_block_size is None else q_block_size,
        "causal": causal or None,
        "q_offset": q_offset or None,
        "scale": scale,
        "soft_cap": soft_cap,
        "deterministic": None if _operators.is_deterministic(deterministic) else False,
    }
    op = torch.ops.perpend.block_attention.default
    o, lse = _operators.call(op, inputs, {name: value for name, value in options.items() if value is not None})
    return (o, lse) if return_lse else o


def _as_int32(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return None if tensor is None else tensor.to(torch.int32)
