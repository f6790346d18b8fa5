"""Masks and plans without tensors of tokens; see perpend/python/native.cpp."""

from typing import Any

import torch

__version__: str

def canonical(text: str) -> str: ...
def canonical_label(text: str) -> str: ...
def dense(
    text: str,
    bindings: list[str],
    arrays: list[torch.Tensor],
    sequence: tuple[int, int, int],
    head: tuple[int, int],
) -> bytes: ...
def picture(
    text: str,
    bindings: list[str],
    arrays: list[torch.Tensor],
    sequence: tuple[int, int, int],
    max_pixels: int,
) -> tuple[bytes, str]: ...
def plan(
    text: str,
    bindings: list[str],
    arrays: list[torch.Tensor],
    sequence: tuple[int, int, int],
    heads: tuple[int, int],
    head_dim: int,
    dtype: str,
    device: str,
) -> dict[str, Any]: ...
