"""Loads the operators ``torch.ops.perpend.*`` and gives them fake kernels and autograd.

``attention.default`` is planned from texts and shapes, ``attention.by_values`` also from tensors that the host reads:
indptrs and the arrays of a mask's names. ``block_attention`` is planned on the device of its lists. Each has its
``..._backward`` with the same arguments behind the operands.
"""

from __future__ import annotations

import functools
import itertools
import pathlib

import torch
from torch.autograd import forward_ad

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
    "str[]? sequence_masks=None, str[]? bindings=None, SymInt[] q_offset=[], float? scale=None, float soft_cap=0.0, "
    "bool deterministic=True"
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


def _empty_outputs(q: torch.Tensor, lse_shape) -> tuple[torch.Tensor, torch.Tensor]:
    statistics = torch.float64 if q.dtype == torch.float64 else torch.float32
    return _empty_rows_like(q), q.new_empty(lse_shape, dtype=statistics)


@torch.library.register_fake("perpend::attention.by_values")
def _by_values_fake(
    q, k, v, mask, alibi_slopes=None, q_indptr=None, kv_indptr=None, arrays=None, *, sequence_masks=None, **_options
):
    check_texts(mask, sequence_masks)  # known while a model is compiled
    return _empty_outputs(q, q.shape[:3] if q_indptr is None else (q.size(1), q.size(0)))


@torch.library.register_fake("perpend::attention")
def _fake(q, k, v, mask, alibi_slopes=None, **options):
    return _by_values_fake(q, k, v, mask, alibi_slopes, **options)


@torch.library.register_fake("perpend::block_attention")
def _block_fake(q, *_arguments, **_options):
    return _empty_outputs(q, q.shape[:3])


@torch.library.register_fake("perpend::attention_backward")
@torch.library.register_fake("perpend::attention_backward.by_values")
@torch.library.register_fake("perpend::block_attention_backward")
def _backward_fake(d_o, d_lse, q, k, v, *_arguments, **_options):
    return _empty_rows_like(q), _empty_rows_like(k), _empty_rows_like(v)


_ops = torch.ops.perpend
_BACKWARD = {
    _ops.attention.default: _ops.attention_backward.default,
    _ops.attention.by_values: _ops.attention_backward.by_values,
    _ops.block_attention.default: _ops.block_attention_backward.default,
}


class _Saved:
    """Stands for a tensor that is kept by autograd, or for a list of so many."""

    def __init__(self, count: int | None = None):
        self.count = count


def _is_tensors(value) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(x, torch.Tensor) for x in value)


def _without_tensors(values, tensors: list[torch.Tensor]) -> list:
    """`values` with what stands for their tensors, which are put into `tensors`."""
    kept = []
    for value in values:
        if isinstance(value, torch.Tensor):
            tensors.append(value)
            value = _Saved()
        elif _is_tensors(value):
            tensors.extend(value)
            value = _Saved(len(value))
        kept.append(value)
    return kept


def _with_tensors(kept, tensors) -> list:
    """The values of :func:`_without_tensors` again."""
    left = iter(tensors)
    values = []
    for value in kept:
        if isinstance(value, _Saved):
            value = next(left) if value.count is None else list(itertools.islice(left, value.count))
        values.append(value)
    return values


def _below_autograd(op, inputs, options):
    with torch._C._AutoDispatchBelowAutograd():
        return op(*inputs, **options)


class _Attention(torch.autograd.Function):
    """One of the operators, with gradients by q, k and v."""

    @staticmethod
    def forward(ctx, op, options, *inputs):
        output = _below_autograd(op, inputs, options)
        q, k, v, *others = inputs
        tensors = [q, k, v, *output]
        ctx.others = _without_tensors(others, tensors)
        ctx.save_for_backward(*tensors)
        ctx.op, ctx.options = op, options
        ctx.set_materialize_grads(False)
        return output

    @staticmethod
    def backward(ctx, d_o, d_lse):
        q, k, v, o, lse, *tensors = ctx.saved_tensors
        others = _with_tensors(ctx.others, tensors)
        if d_o is None:
            d_o = torch.zeros_like(o)
        inputs = [d_o, d_lse, q, k, v, o, lse, *others]
        op = _BACKWARD[ctx.op]
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            gradients = op(*inputs, **ctx.options)
        else:
            gradients = _below_autograd(op, inputs, ctx.options)
        return None, None, *gradients, *[None] * len(others)


class _Gradients(torch.autograd.Function):
    """One of the backward operators, whose own gradients are refused."""

    @staticmethod
    def forward(ctx, op, options, *inputs):
        return _below_autograd(op, inputs, options)

    @staticmethod
    def backward(ctx, *grads):
        raise NotImplementedError("perpend.attention: second derivatives are not supported, only first ones are")


def _refuse_forward_mode(inputs) -> None:
    """Derivatives of forward mode would be lost without a word."""
    for value in inputs:
        if isinstance(value, torch.Tensor) and forward_ad.unpack_dual(value).tangent is not None:
            raise NotImplementedError(
                "perpend.attention: forward-mode derivatives (jvp) are not supported, only those of reverse mode are"
            )


def _autograd_kernel(op, function):
    """What the dispatcher runs for an operator where tensors may want derivatives."""

    def kernel(_keyset, *inputs, **options):
        _refuse_forward_mode(inputs)
        if torch.is_grad_enabled() and any(isinstance(x, torch.Tensor) and x.requires_grad for x in inputs):
            return function.apply(op, options, *inputs)
        return _below_autograd(op, inputs, options)

    return kernel


for _op, _backward_op in _BACKWARD.items():
    _fragment.impl(_op, _autograd_kernel(_op, _Attention), "Autograd", with_keyset=True)
    _fragment.impl(_backward_op, _autograd_kernel(_backward_op, _Gradients), "Autograd", with_keyset=True)


# Function.apply() looks for functorch's tensors first, which call() has sent elsewhere, and for default arguments.
_apply = super(torch.autograd.Function, _Attention).apply
_PLAIN = frozenset((torch.Tensor, torch.nn.Parameter))
_is_of_functorch = torch._C._functorch.is_functorch_wrapped_tensor


def call(op, inputs, options) -> tuple[torch.Tensor, torch.Tensor]:
    """``op(*inputs, **options)``, past the dispatcher's autograd where it would add nothing but its time."""
    q, k, v = inputs[:3]
    if (
        torch.compiler.is_compiling()
        or not _PLAIN.issuperset((type(q), type(k), type(v)))
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or _is_of_functorch(q)
        or _is_of_functorch(k)
        or _is_of_functorch(v)
    ):
        return op(*inputs, **options)
    if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
        return _apply(op, options, *inputs)
    return _below_autograd(op, inputs, options)


def is_deterministic(wanted: bool) -> bool:
    """Who wants it of all of torch wants it here."""
    return wanted or torch.are_deterministic_algorithms_enabled()
