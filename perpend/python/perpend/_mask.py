"""Masks as values, and the functions that build them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Union

import torch

from . import _native
from ._bindings import Bound, merge, pack, same
from ._picture import MaskPicture


class Mask:
    """Which key position ``k`` a query position ``q`` of a head may see: a value.

    Made from text such as ``"causal & (sink(64) | window(1024))"`` (docs/python.md has the grammar), or
    from the functions of this package, which give equal values. Masks are combined with ``&``, ``|``
    and ``~``, compared with ``==``, hashed and printed; the text of a mask reads back to an equal one.
    A name in the text, as ``doc`` in ``"causal & same(doc)"``, is bound by :meth:`bind`, or by the
    argument ``labels`` of :func:`perpend.attention`.

    Args:
        text: the mask; blanks do not matter.

    Raises:
        ValueError: with the column and what was expected there.
    """

    __slots__ = ("arrays", "binding_texts", "bound", "text")

    text: str
    bound: Mapping[str, Bound]
    binding_texts: list[str]
    arrays: list[torch.Tensor]

    def __init__(self, text: str = "all", bound: Mapping[str, Bound] | None = None):
        self._set("text", _native.canonical(str(text)))
        self._set("bound", dict(bound or {}))
        texts, arrays = pack(self.bound)
        self._set("binding_texts", texts)
        self._set("arrays", arrays)

    def _set(self, name: str, value) -> None:
        object.__setattr__(self, name, value)

    def __setattr__(self, name, value):
        raise AttributeError("a mask is a value and can not be changed")

    def __reduce__(self):
        return Mask, (self.text, self.bound)

    def bind(self, **names: Bound) -> Mask:
        """The mask with names bound.

        Args:
            names: for each name a label (its text or a :class:`perpend.Label`), an integer tensor with
                the label of each position (``[positions]``, or ``[batch, positions]`` for another one a
                sequence), or a :class:`perpend.TileMap` for ``tiles(name)``.
        """
        return Mask(self.text, {**self.bound, **names})

    def __and__(self, other: MaskLike) -> Mask:
        return _joined(self, "&", other)

    def __rand__(self, other: str) -> Mask:
        return _joined(Mask(other), "&", self)

    def __or__(self, other: MaskLike) -> Mask:
        return _joined(self, "|", other)

    def __ror__(self, other: str) -> Mask:
        return _joined(Mask(other), "|", self)

    def __invert__(self) -> Mask:
        return Mask(f"~({self.text})", self.bound)

    def __eq__(self, other) -> bool:
        return (
            isinstance(other, Mask)
            and self.text == other.text
            and self.bound.keys() == other.bound.keys()
            and all(same(value, other.bound[name]) for name, value in self.bound.items())
        )

    def __hash__(self) -> int:
        return hash(("perpend.Mask", self.text))

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        bound = f" with {', '.join(self.bound)} bound" if self.bound else ""
        return f"<perpend.Mask {self.text}{bound}>"

    def dense(
        self, q_len: int, kv_len: int | None = None, *, q_offset: int = 0, q_head: int = 0, kv_head: int = 0
    ) -> torch.Tensor:
        """Every pair as a bool tensor ``[q_len, kv_len]``, true where the key is visible; for small sizes.

        Args:
            q_len, kv_len: number of queries and keys (default: as many keys as ``q_offset + q_len``).
            q_offset: position of the first query.
            q_head, kv_head: the head that looks.

        Raises:
            ValueError: for a name that is not bound, and for more than 2^30 pairs.
        """
        sequence = _sequence(q_len, kv_len, q_offset)
        pairs = _native.dense(self.text, self.binding_texts, self.arrays, sequence, (q_head, kv_head))
        return torch.frombuffer(bytearray(pairs), dtype=torch.bool).view(sequence[:2])

    def draw(
        self, q_len: int = 256, kv_len: int | None = None, *, q_offset: int = 0, max_pixels: int = 512
    ) -> MaskPicture:
        """A picture for a notebook: ``mask.draw(1024)`` as the last line of a cell shows it.

        Args:
            q_len, kv_len, q_offset: as of :meth:`dense`; any size.
            max_pixels: of the longer side.
        """
        sequence = _sequence(q_len, kv_len, q_offset)
        png, text = _native.picture(self.text, self.binding_texts, self.arrays, sequence, max_pixels)
        return MaskPicture(png, text)


MaskLike = Union[str, Mask]


def as_mask(mask: MaskLike) -> Mask:
    return mask if isinstance(mask, Mask) else Mask(mask)


def _joined(a: Mask, operator: str, b: MaskLike) -> Mask:
    if not isinstance(b, (str, Mask)):
        return NotImplemented
    b = as_mask(b)
    return Mask(f"({a.text}) {operator} ({b.text})", merge([a.bound, b.bound]))


def _sequence(q_len: int, kv_len: int | None, q_offset: int) -> tuple[int, int, int]:
    return q_len, q_offset + q_len if kv_len is None else kv_len, q_offset
