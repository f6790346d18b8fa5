"""What stands for the names of a mask: label texts, integer arrays, tile maps."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Union

import torch

from . import _native


@dataclasses.dataclass(frozen=True, eq=False)
class TileMap:
    """A static block map: a grid of tiles, each dead, full, or with a bitmap of its pairs.

    Rows of tiles are CSR: the live tiles of row ``r`` are ``[row_begin[r], row_begin[r + 1])``.

    Attributes:
        tile_q, tile_k: queries and keys of a tile.
        num_columns: tiles along the keys.
        row_begin: int64 ``[rows + 1]``, from 0.
        columns: int32 ``[live]``, ascending within a row.
        bitmaps: int32 ``[live]``, -1 for a full tile, else an index into `words`.
        words: int64 ``[num_bitmaps, tile_q, ceil(tile_k / 64)]``; bit ``c % 64`` of word ``c // 64``
            of a row is 1 when its query sees key ``c`` of the tile.
    """

    tile_q: int
    tile_k: int
    num_columns: int
    row_begin: torch.Tensor
    columns: torch.Tensor
    bitmaps: torch.Tensor
    words: torch.Tensor

    @classmethod
    def from_blocks(cls, blocks: torch.Tensor, tile_q: int, tile_k: int | None = None) -> TileMap:
        """The map of a bool grid ``[rows, columns]``: true tiles are full, the others dead."""
        if blocks.dim() != 2 or blocks.dtype != torch.bool:
            raise ValueError(
                f"tile map: blocks must be a bool [rows, columns] tensor, found {blocks.dtype} {list(blocks.shape)}"
            )
        blocks = blocks.cpu()
        row_begin = torch.zeros(blocks.size(0) + 1, dtype=torch.int64)
        row_begin[1:] = blocks.sum(1).cumsum(0)
        columns = blocks.nonzero()[:, 1].to(torch.int32)
        tile_k = tile_q if tile_k is None else tile_k
        words = torch.empty((0, tile_q, -(-tile_k // 64)), dtype=torch.int64)
        return cls(tile_q, tile_k, blocks.size(1), row_begin, columns, torch.full_like(columns, -1), words)

    def arrays(self) -> list[torch.Tensor]:
        """The tensors of the map, in the order of its attributes."""
        return [self.row_begin, self.columns, self.bitmaps, self.words]


class Label:
    """A label: a function from positions to integers, made from its text. A value."""

    __slots__ = ("text",)

    text: str

    def __init__(self, text: str):
        object.__setattr__(self, "text", _native.canonical_label(text))

    def __setattr__(self, name, value):
        raise AttributeError("a label is a value and can not be changed")

    def __reduce__(self):
        return Label, (self.text,)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"perpend.Label({self.text!r})"

    def __eq__(self, other) -> bool:
        return isinstance(other, Label) and self.text == other.text

    def __hash__(self) -> int:
        return hash(("perpend.Label", self.text))


# What a name of a mask may be bound to.
Bound = Union[str, Label, torch.Tensor, TileMap]


def on_host(tensor: torch.Tensor, what: str) -> torch.Tensor:
    """`tensor` on the CPU, where plans are made; the values of one on a GPU are waited for."""
    if tensor.is_cuda and not torch.compiler.is_compiling() and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            f"attention: {what} is on {tensor.device}, and the host can not wait for its values while a CUDA "
            "graph is being captured; give it on the cpu"
        )
    return tensor.cpu()


def pack(bound: Mapping[str, Bound]) -> tuple[list[str], list[torch.Tensor]]:
    """`bound` as the operators take it: texts, and the arrays that they name in order."""
    texts: list[str] = []
    arrays: list[torch.Tensor] = []
    label_texts: list[str] = []
    for name, value in bound.items():
        if isinstance(value, (str, Label)):
            label_texts.append(f"{name} = {value}")
        elif isinstance(value, TileMap):
            texts.append(f"{name} = tiles({value.tile_q}, {value.tile_k}, {value.num_columns})")
            arrays.extend(on_host(array, f"the tile map {name!r}") for array in value.arrays())
        else:
            texts.append(name)
            arrays.append(_label_array(name, value))
    # Labels given as text may use arrays, which therefore come first.
    return texts + label_texts, arrays


def _label_array(name: str, values: torch.Tensor) -> torch.Tensor:
    if not isinstance(values, torch.Tensor):
        values = torch.as_tensor(values)
    if values.is_floating_point() or values.is_complex():
        raise ValueError(f"mask: the array of {name!r} must hold integers, found {values.dtype}")
    if values.dtype not in (torch.int32, torch.int64):
        values = values.to(torch.int32)
    return on_host(values.detach(), f"the array of {name!r}").contiguous()


def merge(parts: Iterable[Mapping[str, Bound]]) -> dict[str, Bound]:
    """The bindings of several masks together; one name must not stand for two things."""
    merged: dict[str, Bound] = {}
    for part in parts:
        for name, value in part.items():
            if name in merged and not same(merged[name], value):
                raise ValueError(f"mask: {name!r} is bound to two different things")
            merged[name] = value
    return merged


def same(a: Bound, b: Bound) -> bool:
    """Whether two bound values are equal."""
    if a is b:
        return True
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.shape == b.shape and bool((a.cpu() == b.cpu()).all())
    if isinstance(a, TileMap) and isinstance(b, TileMap):
        return (a.tile_q, a.tile_k, a.num_columns) == (b.tile_q, b.tile_k, b.num_columns) and all(
            torch.equal(x.cpu(), y.cpu()) for x, y in zip(a.arrays(), b.arrays())
        )
    if isinstance(a, (str, Label)) and isinstance(b, (str, Label)):
        return Label(str(a)) == Label(str(b))
    return False
