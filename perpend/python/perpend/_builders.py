"""Functions that build labels and masks, each equal to its text: ``window(8) == Mask("window(8)")``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Union

from ._bindings import Label, merge
from ._mask import Mask, MaskLike, as_mask

LabelLike = Union[str, Label]
HeadSpan = Union[int, tuple[int, int]]


def _call(name: str, *arguments) -> str:
    return f"{name}({', '.join(str(argument) for argument in arguments)})"


# Labels.


def block(size: int, start: int = 0) -> Label:
    """floor((position - start) / size)."""
    return Label(_call("block", size, start) if start else _call("block", size))


def segments(*lengths: int) -> Label:
    """Index of the run that holds the position; the lengths must add up to the sequence."""
    return Label(_call("segments", *lengths))


def segments_at(*starts: int) -> Label:
    """Index of the run that holds the position, by where runs begin; the last has no end."""
    return Label(_call("segments_at", *starts))


def copy(size: int) -> Label:
    """0 for positions below `size`, 1 from there on."""
    return Label(_call("copy", size))


def within(size: int, label: LabelLike) -> Label:
    """The label of position mod `size`."""
    return Label(_call("within", size, label))


def grid_window(height: int, width: int, window_height: int, window_width: int, shift: int = 0) -> Label:
    """Index of the window of a raster of height x width positions."""
    window = (window_height, window_width, shift) if shift else (window_height, window_width)
    return Label(_call("grid", height, width) + "." + _call("window", *window))


def grid_frame(frames: int, height: int, width: int) -> Label:
    """Index of the frame of height * width positions."""
    return Label(_call("grid", frames, height, width) + ".frame")


# Masks.

all = Mask("all")  # noqa: A001, the algebra's own word
none = Mask("none")
causal = Mask("causal")


def window(left: int, right: int | None = None) -> Mask:
    """q - left < k, and k < q + right where right is given."""
    return Mask(_call("window", left) if right is None else _call("window", left, right))


def sink(count: int) -> Mask:
    """k < count."""
    return Mask(_call("sink", count))


def same(label: LabelLike) -> Mask:
    """label(k) = label(q)."""
    return Mask(_call("same", label))


def upto(label: LabelLike) -> Mask:
    """label(k) <= label(q)."""
    return Mask(_call("upto", label))


def before(label: LabelLike) -> Mask:
    """label(k) < label(q)."""
    return Mask(_call("before", label))


def q_in(label: LabelLike, *values: int) -> Mask:
    """label(q) is one of the values."""
    return Mask(_call("q_in", label, *values))


def k_in(label: LabelLike, *values: int) -> Mask:
    """label(k) is one of the values."""
    return Mask(_call("k_in", label, *values))


def every(block_size: int, count: int, step: int = 0) -> Mask:
    """(floor(k / block_size) + step * g) mod count = 0, with g the key/value head."""
    return Mask(_call("every", block_size, count, step) if step else _call("every", block_size, count))


def near(block_size: int, count: int) -> Mask:
    """floor(q / block_size) - floor(k / block_size) < count."""
    return Mask(_call("near", block_size, count))


def table(label: LabelLike, *rows: str) -> Mask:
    """Row label(q), column label(k) of a square table of '0' and '1', one text a row."""
    return Mask(_call("table", label, *rows))


def tiles(name: str) -> Mask:
    """The tile map of that name, to be bound."""
    return Mask(_call("tiles", name))


def heads(choices: Mapping[HeadSpan, MaskLike], rest: MaskLike | None = None) -> Mask:
    """Each mask on its query heads: ``heads({(0, 3): causal, 7: window(64)}, rest=none)``.

    Args:
        choices: masks by head, or by (first, last), both included.
        rest: the mask of all other heads.
    """
    parts = [(_span(span), as_mask(mask)) for span, mask in choices.items()]
    if rest is not None:
        parts.append(("rest", as_mask(rest)))
    text = "; ".join(f"{span}: {mask.text}" for span, mask in parts)
    return Mask(f"heads({text})", merge(mask.bound for _, mask in parts))


def _span(span: HeadSpan) -> str:
    return f"{span[0]}-{span[1]}" if isinstance(span, tuple) else str(span)
