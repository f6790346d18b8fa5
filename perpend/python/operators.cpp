// torch.ops.perpend: the operators of the Python package, registered through LibTorch's stable ABI,
// so that one build serves torch 2.11 and what comes after it. Fake kernels and autograd are
// Python's (perpend/_operators.py).
#include <array>
#include <tuple>

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "perpend/ops/attention_call.h"
#include "perpend/ops/mask_source.h"
#include "perpend/python/device_scope.h"
#include "perpend/python/stable_arguments.h"

namespace perpend::python {
namespace {

using torch::headeronly::ScalarType;
using OptionalTensor = std::optional<Tensor>;
using OptionalTensors = std::optional<std::vector<Tensor>>;
using OptionalList = std::optional<StableListHandle>;

// Views of the operands; only those whose rows are not contiguous are copied.
struct Operands {
  Operands(const Tensor& q_given, const Tensor& k_given, const Tensor& v_given)
      : q(with_contiguous_rows(q_given)),
        k(with_contiguous_rows(k_given)),
        v(with_contiguous_rows(v_given)) {}
  Tensor q;
  Tensor k;
  Tensor v;
};

Tensor empty_lse(const Tensor& q, bool ragged) {
  const auto dtype = q.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  if (ragged) return torch::stable::new_empty(q, std::array{q.size(1), q.size(0)}, dtype);
  return torch::stable::new_empty(q, std::array{q.size(0), q.size(1), q.size(2)}, dtype);
}

// The arguments that both operators share, in the order of their schemas.
struct SharedArguments {
  SharedArguments(Stream gpu, StringHandle mask, const OptionalTensor& alibi_slopes,
                  const OptionalTensor& q_indptr, const OptionalTensor& kv_indptr,
                  const OptionalTensors& arrays, OptionalList sequence_masks, OptionalList bindings,
                  const std::vector<std::int64_t>& q_offset, std::optional<double> scale,
                  double soft_cap)
      : host_q_indptr(on_host("q_indptr", q_indptr, gpu)),
        host_kv_indptr(on_host("kv_indptr", kv_indptr, gpu)) {
    check(!scale || *scale != 0.0,
          "attention: scale must not be 0; leave it out for 1 / sqrt(head_dim)");
    source.texts = {take_text(mask)};
    if (auto texts = take_texts(sequence_masks); !texts.empty()) source.texts = std::move(texts);
    source.bindings = take_texts(bindings);
    if (arrays) {
      for (const Tensor& array : *arrays) source.arrays.push_back(view_of(array));
    }
    if (alibi_slopes) slopes = torch::stable::contiguous(*alibi_slopes);
    call.q_indptr = view_of(host_q_indptr);
    call.kv_indptr = view_of(host_kv_indptr);
    call.q_offsets = q_offset;
    call.scale = static_cast<float>(scale.value_or(0.0));
    call.score = {static_cast<float>(soft_cap), view_of(slopes)};
    call.num_threads = static_cast<int>(torch::stable::get_num_threads());
    call.gpu = gpu;
  }
  AttentionCall call_of(const Operands& operands) const {
    AttentionCall whole = call;
    whole.q = view_of(operands.q);
    whole.k = view_of(operands.k);
    whole.v = view_of(operands.v);
    return whole;
  }

  OptionalTensor host_q_indptr;
  OptionalTensor host_kv_indptr;
  OptionalTensor slopes;
  MaskSource source;
  AttentionCall call;  // without q, k and v
};

std::tuple<Tensor, Tensor> attention_by_values(
    const Tensor& q, const Tensor& k, const Tensor& v, StringHandle mask,
    const OptionalTensor& alibi_slopes, const OptionalTensor& q_indptr,
    const OptionalTensor& kv_indptr, const OptionalTensors& arrays, OptionalList sequence_masks,
    OptionalList bindings, const std::vector<std::int64_t>& q_offset, std::optional<double> scale,
    double soft_cap) {
  const DeviceScope device(q);
  const SharedArguments shared(device.stream(), mask, alibi_slopes, q_indptr, kv_indptr, arrays,
                               sequence_masks, bindings, q_offset, scale, soft_cap);
  const Operands operands(q, k, v);
  const AttentionCall call = shared.call_of(operands);
  const auto masks = mask_cache().get(shared.source, shape_of(call));
  const Tensor o = empty_rows_like(operands.q);
  const Tensor lse = empty_lse(operands.q, static_cast<bool>(call.q_indptr));
  run_attention(call, *masks, view_of(o), view_of(lse));
  return std::tuple(o, lse);
}

std::tuple<Tensor, Tensor, Tensor> attention_backward_by_values(
    const Tensor& d_o, const OptionalTensor& d_lse, const Tensor& q, const Tensor& k,
    const Tensor& v, const Tensor& o, const Tensor& lse, StringHandle mask,
    const OptionalTensor& alibi_slopes, const OptionalTensor& q_indptr,
    const OptionalTensor& kv_indptr, const OptionalTensors& arrays, OptionalList sequence_masks,
    OptionalList bindings, const std::vector<std::int64_t>& q_offset, std::optional<double> scale,
    double soft_cap) {
  const DeviceScope device(q);
  const SharedArguments shared(device.stream(), mask, alibi_slopes, q_indptr, kv_indptr, arrays,
                               sequence_masks, bindings, q_offset, scale, soft_cap);
  const Operands operands(q, k, v);
  const AttentionCall call = shared.call_of(operands);
  const auto masks = mask_cache().get(shared.source, shape_of(call));
  const Tensor o_rows = with_contiguous_rows(o);
  const Tensor d_o_rows = with_contiguous_rows(d_o);
  const Tensor lse_dense = torch::stable::contiguous(lse);
  OptionalTensor d_lse_dense;
  if (d_lse) d_lse_dense = torch::stable::contiguous(*d_lse);
  const Tensor dq = empty_rows_like(operands.q);
  const Tensor dk = empty_rows_like(operands.k);
  const Tensor dv = empty_rows_like(operands.v);
  run_attention_backward(call, *masks,
                         {.o = view_of(o_rows),
                          .lse = view_of(lse_dense),
                          .d_o = view_of(d_o_rows),
                          .d_lse = view_of(d_lse_dense),
                          .dq = view_of(dq),
                          .dk = view_of(dk),
                          .dv = view_of(dv)});
  return std::tuple(dq, dk, dv);
}

std::tuple<Tensor, Tensor> attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                     StringHandle mask, const OptionalTensor& alibi_slopes,
                                     OptionalList sequence_masks, OptionalList bindings,
                                     const std::vector<std::int64_t>& q_offset,
                                     std::optional<double> scale, double soft_cap) {
  return attention_by_values(q, k, v, mask, alibi_slopes, {}, {}, {}, sequence_masks, bindings,
                             q_offset, scale, soft_cap);
}

std::tuple<Tensor, Tensor, Tensor> attention_backward(
    const Tensor& d_o, const OptionalTensor& d_lse, const Tensor& q, const Tensor& k,
    const Tensor& v, const Tensor& o, const Tensor& lse, StringHandle mask,
    const OptionalTensor& alibi_slopes, OptionalList sequence_masks, OptionalList bindings,
    const std::vector<std::int64_t>& q_offset, std::optional<double> scale, double soft_cap) {
  return attention_backward_by_values(d_o, d_lse, q, k, v, o, lse, mask, alibi_slopes, {}, {}, {},
                                      sequence_masks, bindings, q_offset, scale, soft_cap);
}

// The tensors' device is looked at inside, where a build without its kernels can say so.
template <class Library>
void implement(Library& library) {
  library.impl("attention", TORCH_BOX(&attention));
  library.impl("attention.by_values", TORCH_BOX(&attention_by_values));
  library.impl("attention_backward", TORCH_BOX(&attention_backward));
  library.impl("attention_backward.by_values", TORCH_BOX(&attention_backward_by_values));
}

}  // namespace

// Tensors come first and without keywords, as torch.library.register_autograd wants them. The
// overloads that plan from the values of tensors need a tag, which can only be given from Python:
// perpend/_operators.py has their schemas.
STABLE_TORCH_LIBRARY(perpend, library) {
  library.def(
      "attention(Tensor q, Tensor k, Tensor v, str mask, Tensor? alibi_slopes=None, *, "
      "str[]? sequence_masks=None, str[]? bindings=None, SymInt[] q_offset=[], float? scale=None, "
      "float soft_cap=0.0) -> (Tensor o, Tensor lse)");
  library.def(
      "attention_backward(Tensor d_o, Tensor? d_lse, Tensor q, Tensor k, Tensor v, Tensor o, "
      "Tensor lse, str mask, Tensor? alibi_slopes=None, *, str[]? sequence_masks=None, "
      "str[]? bindings=None, SymInt[] q_offset=[], float? scale=None, float soft_cap=0.0) "
      "-> (Tensor dq, Tensor dk, Tensor dv)");
}

STABLE_TORCH_LIBRARY_IMPL(perpend, CPU, library) { implement(library); }
STABLE_TORCH_LIBRARY_IMPL(perpend, CUDA, library) { implement(library); }

}  // namespace perpend::python
