"""Loads the operators ``torch.ops.perpend.*`` and gives them fake kernels and autograd.

``attention.default`` is planned from texts and shapes, ``attention.by_values`` also from tensors that the host reads:
indptrs and the arrays of a mask's names. Each has its ``attention_backward``.
"""

from __future__ import annotations

import functools
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

_VALUES = "Tensor? q_indptr=None, Tensor? kv_indptr=None, Tensor[]? arrays=None"
_OPTIONS = (
    "str[]? sequence_masks=None, str[]? bindings=None, SymInt[] q_offset=[], float? scale=None, float soft_cap=0.0"
)
# A CUDA graph keeps the plan of the values that it was captured with. Whoever captures one knows it; the graphs that
# torch.compile makes by itself must do without these calls, which the tag tells it.
_fragment = torch.library.Library("perpend", "FRAGMENT")
for _schema in (
    f"attention.by_values(Tensor q, Tensor k, Tensor v, str mask, Tensor? alibi_slopes=None, {_VALUES}, *, {_OPTIONS}) "
    "-> (Tensor o, Tensor lse)",
    "attention_backward.by_values(Tensor d_o, Tensor? d_lse, Tensor q, Tensor k, Tensor v, Tensor o, Tensor lse, "
    f"str mask, Tensor? alibi_slopes=None, {_VALUES}, *, {_OPTIONS}) -> (Tensor dq, Tensor dk, Tensor dv)",
):
    _fragment.define(_schema, tags=(torch.Tag.cudagraph_unsafe,))


def _has_contiguous_rows(tensor: torch.Tensor) -> bool:
    return tensor.dim() == 0 or tensor.size(-1) == 1 or tensor.stride(-1) == 1


def _empty_rows_like(tensor: torch.Tensor) -> torch.Tensor:
    """What the operators allocate: the layout of `tensor` where its rows allow."""
    rows = tensor if _has_contiguous_rows(tensor) else tensor.contiguous()
    empty = torch.empty_like(rows)
    return empty if _has_contiguous_rows(empty) else rows.new_empty(rows.shape)


_check_text = functools.lru_cache(maxsize=1024)(_native.canonical)


def check_texts(mask: str, sequence_masks: list[str] | None) -> None:
    """Raises ValueError for a mistake in a mask's text."""
    for text in sequence_masks or (mask,):
        _check_text(text)


@torch.library.register_fake("perpend::attention.by_values")
def _by_values_fake(
    q, k, v, mask, alibi_slopes=None, q_indptr=None, kv_indptr=None, arrays=None, *, sequence_masks=None, **_options
):
    check_texts(mask, sequence_masks)  # known while a model is compiled
    statistics = torch.float64 if q.dtype == torch.float64 else torch.float32
    if q_indptr is None:
        lse_shape = (q.size(0), q.size(1), q.size(2))
    else:
        lse_shape = (q.size(1), q.size(0))
    return _empty_rows_like(q), q.new_empty(lse_shape, dtype=statistics)


@torch.library.register_fake("perpend::attention")
def _fake(q, k, v, mask, alibi_slopes=None, **options):
    return _by_values_fake(q, k, v, mask, alibi_slopes, **options)


@torch.library.register_fake("perpend::attention_backward")
@torch.library.register_fake("perpend::attention_backward.by_values")
def _backward_fake(d_o, d_lse, q, k, v, *_arguments, **_options):
    return _empty_rows_like(q), _empty_rows_like(k), _empty_rows_like(v)


def _save_for_backward(ctx, inputs, keyword_only_inputs, output) -> None:
    q, k, v, mask, alibi_slopes, *values = inputs
    if values:
        *indptrs, arrays = values
        values = [*indptrs, *(arrays or ())]
    ctx.save_for_backward(q, k, v, *output, alibi_slopes, *values)
    ctx.mask = mask
    ctx.options = keyword_only_inputs
    ctx.set_materialize_grads(False)


def _gradients(ctx, d_o, d_lse) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """By q, k and v."""
    q, k, v, o, lse, alibi_slopes, *values = ctx.saved_tensors
    if d_o is None:
        d_o = torch.zeros_like(o)
    op = torch.ops.perpend.attention_backward.default
    inputs = [d_o, d_lse, q, k, v, o, lse, ctx.mask, alibi_slopes]
    if values:
        op = torch.ops.perpend.attention_backward.by_values
        inputs += [*values[:2], values[2:]]
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return op(*inputs, **ctx.options)
    return _below_autograd(op, inputs, ctx.options)


def _backward(ctx, d_o, d_lse):
    # As many as arguments were given: those left to their defaults are not counted.
    others = ctx.needs_input_grad[3:]
    nothing = ([None] * len(other) if isinstance(other, (list, tuple)) else None for other in others)
    return *_gradients(ctx, d_o, d_lse), *nothing


def _no_second_derivatives(ctx, *grads):
    raise NotImplementedError("perpend.attention: second derivatives are not supported, only first ones are")


for _overload in ("", ".by_values"):
    torch.library.register_autograd(f"perpend::attention{_overload}", _backward, setup_context=_save_for_backward)
    torch.library.register_autograd(f"perpend::attention_backward{_overload}", _no_second_derivatives)


def _below_autograd(op, inputs, options):
    with torch._C._AutoDispatchBelowAutograd():
        return op(*inputs, **options)


class _Attention(torch.autograd.Function):
    """What torch.library makes of an operator with gradients, without its cost: that reads the schema at each call."""

    @staticmethod
    def forward(ctx, op, options, *inputs):
        output = _below_autograd(op, inputs, options)
        _save_for_backward(ctx, inputs, options, output)
        return output

    @staticmethod
    def backward(ctx, d_o, d_lse):
        nothing = [None] * (len(ctx.needs_input_grad) - 5)
        return None, None, *_gradients(ctx, d_o, d_lse), *nothing


_PLAIN = frozenset((torch.Tensor, torch.nn.Parameter))


def call(op, inputs, options) -> tuple[torch.Tensor, torch.Tensor]:
    """``op(*inputs, **options)``, past the dispatcher's autograd where it would add nothing but its time."""
    q, k, v = inputs[:3]
    if (
        torch.compiler.is_compiling()
        or not _PLAIN.issuperset((type(q), type(k), type(v)))
        or torch._C._are_functorch_transforms_active()
    ):
        return op(*inputs, **options)
    if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
        return _Attention.apply(op, options, *inputs)
    return _below_autograd(op, inputs, options)
