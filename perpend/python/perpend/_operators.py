"""Loads the operators ``torch.ops.perpend.*`` and gives them fake kernels and autograd."""

from __future__ import annotations

import pathlib

import torch

from . import _native

_OLDEST_TORCH = (2, 11)


def _load() -> None:
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < _OLDEST_TORCH:
        raise ImportError(f"perpend needs torch 2.11 or newer (found {torch.__version__})")
    torch.ops.load_library(str(pathlib.Path(__file__).with_name("libperpend_operators.so")))


_load()


def _has_contiguous_rows(tensor: torch.Tensor) -> bool:
    return tensor.dim() == 0 or tensor.size(-1) == 1 or tensor.stride(-1) == 1


def _empty_rows_like(tensor: torch.Tensor) -> torch.Tensor:
    """What the operators allocate: the layout of `tensor` where its rows allow."""
    rows = tensor if _has_contiguous_rows(tensor) else tensor.contiguous()
    empty = torch.empty_like(rows)
    return empty if _has_contiguous_rows(empty) else rows.new_empty(rows.shape)


def check_texts(mask: str, sequence_masks: list[str] | None) -> None:
    """Raises ValueError for a mistake in a mask's text."""
    for text in sequence_masks or (mask,):
        _native.canonical(text)


@torch.library.register_fake("perpend::attention")
def _attention_fake(
    q,
    k,
    v,
    mask,
    arrays=None,
    q_indptr=None,
    kv_indptr=None,
    alibi_slopes=None,
    *,
    sequence_masks=None,
    bindings=None,
    q_offset=(),
    scale=None,
    soft_cap=0.0,
):
    check_texts(mask, sequence_masks)  # known while a model is compiled
    statistics = torch.float64 if q.dtype == torch.float64 else torch.float32
    if q_indptr is None:
        lse_shape = (q.size(0), q.size(1), q.size(2))
    else:
        lse_shape = (q.size(1), q.size(0))
    return _empty_rows_like(q), q.new_empty(lse_shape, dtype=statistics)


@torch.library.register_fake("perpend::attention_backward")
def _attention_backward_fake(d_o, d_lse, q, k, v, *_arguments, **_options):
    return _empty_rows_like(q), _empty_rows_like(k), _empty_rows_like(v)


def _save_for_backward(ctx, inputs, keyword_only_inputs, output) -> None:
    q, k, v, mask, arrays, *optional = inputs
    ctx.save_for_backward(q, k, v, *output, *optional, *(arrays or ()))
    ctx.mask = mask
    ctx.options = keyword_only_inputs
    ctx.set_materialize_grads(False)


def _attention_backward(ctx, d_o, d_lse):
    q, k, v, o, lse, q_indptr, kv_indptr, alibi_slopes, *arrays = ctx.saved_tensors
    if d_o is None:
        d_o = torch.zeros_like(o)
    gradients = torch.ops.perpend.attention_backward(
        d_o, d_lse, q, k, v, o, lse, ctx.mask, arrays, q_indptr, kv_indptr, alibi_slopes, **ctx.options
    )
    # As many as arguments were given: those left to their defaults are not counted.
    others = ctx.needs_input_grad[3:]
    return *gradients, *([None] * len(other) if isinstance(other, (list, tuple)) else None for other in others)


torch.library.register_autograd(
    "perpend::attention", _attention_backward, setup_context=_save_for_backward
)


def _no_second_derivatives(ctx, *grads):
    raise NotImplementedError("perpend.attention: second derivatives are not supported, only first ones are")


torch.library.register_autograd("perpend::attention_backward", _no_second_derivatives)
