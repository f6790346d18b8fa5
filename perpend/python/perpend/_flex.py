"""Masks of torch.nn.attention.flex_attention as masks of ours."""

from __future__ import annotations

import torch

from ._bindings import TileMap
from ._mask import Mask

_PAIRS_AT_ONCE = 1 << 22


def from_flex(block_mask) -> Mask | list[Mask]:
    """The mask that a FlexAttention ``BlockMask`` describes, pair by pair.

    Full blocks are taken as they are; of partial blocks every pair is asked of ``mask_mod``, once, here.
    Positions start at 0, and the mask is good for the lengths of the BlockMask only.

    Args:
        block_mask: a ``torch.nn.attention.flex_attention.BlockMask`` with any block size; its heads must be
            one or those of q, its batch one or that of q.

    Returns:
        A :class:`perpend.Mask`, or a list with one for each sequence when the batch has several; either is
        what :func:`perpend.attention` takes as `mask`.

    Raises:
        ValueError: when the BlockMask can not be taken exactly: a block listed twice or outside the
            lengths, a ``mask_mod`` that is missing, fails, or does not give booleans.
    """
    num_batch, num_heads, _ = block_mask.kv_num_blocks.shape
    masks = [_mask_of_sequence(block_mask, b, num_heads) for b in range(num_batch)]
    return masks[0] if num_batch == 1 else masks


def _mask_of_sequence(block_mask, batch: int, num_heads: int) -> Mask:
    maps: list[TileMap] = []
    parts: list[tuple[int, int]] = []  # for each head in turn: (head, index into maps)
    for head in range(num_heads):
        tile_map = _tile_map(block_mask, batch, head)
        known = next((i for i, other in enumerate(maps) if _equal(tile_map, other)), len(maps))
        if known == len(maps):
            maps.append(tile_map)
        parts.append((head, known))
    bound = {f"flex_{batch}_{i}": tile_map for i, tile_map in enumerate(maps)}
    if len(maps) == 1:
        return Mask(f"tiles(flex_{batch}_0)", bound)
    text = "; ".join(f"{head}: tiles(flex_{batch}_{i})" for head, i in parts)
    return Mask(f"heads({text})", bound)


def _equal(a: TileMap, b: TileMap) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.arrays(), b.arrays()))


def _tile_map(block_mask, batch: int, head: int) -> TileMap:
    q_len, kv_len = block_mask.seq_lengths
    # One block may be far larger than what it covers.
    tile_q = min(block_mask.BLOCK_SIZE[0], max(q_len, 1))
    tile_k = min(block_mask.BLOCK_SIZE[1], max(kv_len, 1))
    num_rows, num_columns = -(-q_len // tile_q), -(-kv_len // tile_k)
    partial = _blocks(block_mask.kv_num_blocks[batch, head], block_mask.kv_indices[batch, head])
    full = partial[:0]
    if block_mask.full_kv_num_blocks is not None:
        full = _blocks(block_mask.full_kv_num_blocks[batch, head], block_mask.full_kv_indices[batch, head])
    blocks = torch.cat([partial, full])
    if blocks.numel() and (int(blocks[:, 0].max()) >= num_rows or int(blocks[:, 1].max()) >= num_columns):
        raise ValueError(f"from_flex: a block lies outside of {q_len} queries x {kv_len} keys")
    bitmaps = torch.full((len(blocks),), -1, dtype=torch.int32)
    bitmaps[: len(partial)] = torch.arange(len(partial), dtype=torch.int32)
    place, order = torch.sort(blocks[:, 0] * num_columns + blocks[:, 1])
    if bool((place[1:] == place[:-1]).any()):
        raise ValueError("from_flex: the BlockMask lists a block twice, which FlexAttention counts twice")
    row_begin = torch.zeros(num_rows + 1, dtype=torch.int64)
    row_begin[1:] = torch.bincount(blocks[:, 0], minlength=num_rows).cumsum(0)
    words = _partial_words(block_mask, batch, head, partial, (tile_q, tile_k))
    return TileMap(
        tile_q, tile_k, num_columns, row_begin, blocks[order, 1].to(torch.int32), bitmaps[order], words
    )


def _blocks(counts: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """(row, column) of each block, int64 [blocks, 2]; indices beyond a row's count mean nothing."""
    counts, indices = counts.cpu().to(torch.int64), indices.cpu().to(torch.int64)
    rows, slots = (torch.arange(indices.size(1)) < counts[:, None]).nonzero(as_tuple=True)
    return torch.stack([rows, indices[rows, slots]], dim=1)


def _partial_words(
    block_mask, batch: int, head: int, blocks: torch.Tensor, tile: tuple[int, int]
) -> torch.Tensor:
    """The pairs of partial blocks as bits, int64 [blocks, tile_q, ceil(tile_k / 64)]."""
    tile_q, tile_k = tile
    words = torch.zeros((len(blocks), tile_q, -(-tile_k // 64)), dtype=torch.int64)
    step = max(1, _PAIRS_AT_ONCE // (tile_q * tile_k))
    for begin in range(0, len(blocks), step):
        some = blocks[begin : begin + step]
        q = some[:, :1] * tile_q + torch.arange(tile_q)
        k = some[:, 1:] * tile_k + torch.arange(tile_k)
        words[begin : begin + step] = _as_words(_visible(block_mask, batch, head, q, k))
    return words


def _visible(block_mask, batch: int, head: int, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """bool [blocks, tile_q, tile_k] for positions q [blocks, tile_q] and k [blocks, tile_k]."""
    q_len, kv_len = block_mask.seq_lengths
    inside = (q < q_len)[:, :, None] & (k < kv_len)[:, None, :]
    # Pairs outside are asked at the border, so that mask_mod may index tensors of these lengths.
    q = q.clamp(max=q_len - 1)[:, :, None].expand(inside.shape)
    k = k.clamp(max=kv_len - 1)[:, None, :].expand(inside.shape)
    device = block_mask.kv_indices.device
    q, k = q.reshape(-1).to(device), k.reshape(-1).to(device)
    try:
        visible = torch.vmap(block_mask.mask_mod)(torch.full_like(q, batch), torch.full_like(q, head), q, k)
    except Exception as error:
        raise ValueError(f"from_flex: mask_mod can not be asked: {error}") from error
    if visible.dtype != torch.bool:
        raise ValueError(f"from_flex: mask_mod must give booleans, found {visible.dtype}")
    return visible.cpu().view(inside.shape) & inside


def _as_words(bits: torch.Tensor) -> torch.Tensor:
    """bool [..., n] as int64 [..., ceil(n / 64)], bit c % 64 of word c // 64."""
    padded = torch.nn.functional.pad(bits, (0, -bits.size(-1) % 64))
    return (padded.unflatten(-1, (-1, 64)).to(torch.int64) << torch.arange(64)).sum(-1)
