"""Attention under masks that are written down: ``perpend.attention(q, k, v, "causal & window(1024)")``.

A mask is a small expression; which tiles are computed follows from it. See :func:`attention`,
:class:`Mask`, :func:`plan` and :func:`from_flex`, and :func:`block_attention` for lists of blocks that a model
chooses; docs/python.md is the introduction.
"""

from ._attention import attention
from ._bindings import Label, TileMap
from ._block_attention import block_attention
from ._builders import (
    all,
    before,
    block,
    causal,
    copy,
    every,
    grid_frame,
    grid_window,
    heads,
    k_in,
    near,
    none,
    q_in,
    same,
    segments,
    segments_at,
    sink,
    table,
    tiles,
    upto,
    window,
    within,
)
from ._flex import from_flex
from ._mask import Mask
from ._native import __version__
from ._picture import MaskPicture
from ._plan import Plan, plan

# `all` is left out, so that a star import does not hide Python's own.
__all__ = [
    "Label",
    "Mask",
    "MaskPicture",
    "Plan",
    "TileMap",
    "__version__",
    "attention",
    "before",
    "block",
    "block_attention",
    "causal",
    "copy",
    "every",
    "from_flex",
    "grid_frame",
    "grid_window",
    "heads",
    "k_in",
    "near",
    "none",
    "plan",
    "q_in",
    "same",
    "segments",
    "segments_at",
    "sink",
    "table",
    "tiles",
    "upto",
    "window",
    "within",
]
