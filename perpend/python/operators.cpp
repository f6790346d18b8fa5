// torch.ops.perpend: the operators of the Python package, registered through LibTorch's stable ABI,
// so that one build serves torch 2.11 and what comes after it. Fake kernels and autograd are
// Python's (perpend/_operators.py).
#include <tuple>

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "perpend/ops/attention_call.h"
#include "perpend/ops/block_attention_call.h"
#include "perpend/ops/mask_source.h"
#include "perpend/python/device_scope.h"
#include "perpend/python/stable_arguments.h"

namespace perpend::python {
namespace {

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
  if (ragged) return empty_dense(q, {q.size(1), q.size(0)}, dtype);
  return empty_dense(q, {q.size(0), q.size(1), q.size(2)}, dtype);
}

// What the backward operators are given besides operands and options.
struct Outputs {
  Tensor d_o;
  OptionalTensor d_lse;
  Tensor o;
  Tensor lse;
};

// Gradients to be written, and what they are made from.
class Gradients {
 public:
  Gradients(const Operands& operands, const Outputs& of)
      : o_(with_contiguous_rows(of.o)),
        lse_(dense(of.lse)),
        d_o_(with_contiguous_rows(of.d_o)),
        dq_(empty_rows_like(operands.q)),
        dk_(empty_rows_like(operands.k)),
        dv_(empty_rows_like(operands.v)) {
    if (of.d_lse) d_lse_ = dense(*of.d_lse);
  }

  AttentionCallGrads views(bool deterministic) const {
    return {.o = view_of(o_),
            .lse = view_of(lse_),
            .d_o = view_of(d_o_),
            .d_lse = view_of(d_lse_),
            .dq = view_of(dq_),
            .dk = view_of(dk_),
            .dv = view_of(dv_),
            .deterministic = deterministic};
  }
  std::tuple<Tensor, Tensor, Tensor> of_operands() const { return {dq_, dk_, dv_}; }

 private:
  Tensor o_;
  Tensor lse_;
  Tensor d_o_;
  OptionalTensor d_lse_;
  Tensor dq_;
  Tensor dk_;
  Tensor dv_;
};

float scale_of(std::optional<double> scale) {
  check(!scale || *scale != 0.0,
        "attention: scale must not be 0; leave it out for 1 / sqrt(head_dim)");
  return static_cast<float>(scale.value_or(0.0));
}

// The arguments that the operators of masks share, in the order of their schemas.
struct SharedArguments {
  SharedArguments(Stream gpu, StringHandle mask, const OptionalTensor& alibi_slopes,
                  const OptionalTensor& q_indptr, const OptionalTensor& kv_indptr,
                  const OptionalTensors& arrays, OptionalList sequence_masks, OptionalList bindings,
                  const std::vector<std::int64_t>& q_offset, std::optional<double> scale,
                  double soft_cap)
      : host_q_indptr(on_host("q_indptr", q_indptr, gpu)),
        host_kv_indptr(on_host("kv_indptr", kv_indptr, gpu)) {
    source.texts = {take_text(mask)};
    if (auto texts = take_texts(sequence_masks); !texts.empty()) source.texts = std::move(texts);
    source.bindings = take_texts(bindings);
    if (arrays) {
      for (const Tensor& array : *arrays) source.arrays.push_back(view_of(array));
    }
    if (alibi_slopes) slopes = dense(*alibi_slopes);
    call.q_indptr = view_of(host_q_indptr);
    call.kv_indptr = view_of(host_kv_indptr);
    call.q_offsets = q_offset;
    call.scale = scale_of(scale);
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
    double soft_cap, bool /*deterministic*/) {
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
    double soft_cap, bool deterministic) {
  const DeviceScope device(q);
  const SharedArguments shared(device.stream(), mask, alibi_slopes, q_indptr, kv_indptr, arrays,
                               sequence_masks, bindings, q_offset, scale, soft_cap);
  const Operands operands(q, k, v);
  const AttentionCall call = shared.call_of(operands);
  const auto masks = mask_cache().get(shared.source, shape_of(call));
  const Gradients gradients(operands, {d_o, d_lse, o, lse});
  run_attention_backward(call, *masks, gradients.views(deterministic));
  return gradients.of_operands();
}

std::tuple<Tensor, Tensor> attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                     StringHandle mask, const OptionalTensor& alibi_slopes,
                                     OptionalList sequence_masks, OptionalList bindings,
                                     const std::vector<std::int64_t>& q_offset,
                                     std::optional<double> scale, double soft_cap,
                                     bool deterministic) {
  return attention_by_values(q, k, v, mask, alibi_slopes, {}, {}, {}, sequence_masks, bindings,
                             q_offset, scale, soft_cap, deterministic);
}

std::tuple<Tensor, Tensor, Tensor> attention_backward(
    const Tensor& d_o, const OptionalTensor& d_lse, const Tensor& q, const Tensor& k,
    const Tensor& v, const Tensor& o, const Tensor& lse, StringHandle mask,
    const OptionalTensor& alibi_slopes, OptionalList sequence_masks, OptionalList bindings,
    const std::vector<std::int64_t>& q_offset, std::optional<double> scale, double soft_cap,
    bool deterministic) {
  return attention_backward_by_values(d_o, d_lse, q, k, v, o, lse, mask, alibi_slopes, {}, {}, {},
                                      sequence_masks, bindings, q_offset, scale, soft_cap,
                                      deterministic);
}

// What of a call of block attention comes after the operands.
struct BlockArguments {
  Tensor block_indices;
  OptionalTensor block_counts;
  OptionalTensor alibi_slopes;
  std::int64_t block_size;
  std::int64_t q_block_size;
  bool causal;
  std::int64_t q_offset;
  std::optional<double> scale;
  double soft_cap;

  // Views of this and of the operands.
  BlockAttentionCall call_of(const Operands& operands, Stream gpu) const {
    AttentionCall call;
    call.q = view_of(operands.q);
    call.k = view_of(operands.k);
    call.v = view_of(operands.v);
    call.q_offsets = {q_offset};
    call.scale = scale_of(scale);
    call.score = {static_cast<float>(soft_cap), view_of(alibi_slopes)};
    call.num_threads = static_cast<int>(torch::stable::get_num_threads());
    call.gpu = gpu;
    return {call, view_of(block_indices), view_of(block_counts), block_size, q_block_size, causal};
  }
};

OptionalTensor contiguous(const OptionalTensor& tensor) {
  return tensor ? OptionalTensor(dense(*tensor)) : OptionalTensor();
}

std::tuple<Tensor, Tensor> block_attention(
    const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& block_indices,
    const OptionalTensor& block_counts, const OptionalTensor& alibi_slopes, std::int64_t block_size,
    std::int64_t q_block_size, bool causal, std::int64_t q_offset, std::optional<double> scale,
    double soft_cap, bool /*deterministic*/) {
  const DeviceScope device(q);
  const BlockArguments arguments{with_contiguous_rows(block_indices),
                                 block_counts,
                                 contiguous(alibi_slopes),
                                 block_size,
                                 q_block_size,
                                 causal,
                                 q_offset,
                                 scale,
                                 soft_cap};
  const Operands operands(q, k, v);
  const BlockAttentionCall call = arguments.call_of(operands, device.stream());
  spec_of(call);  // says what is wrong before anything is allocated
  const Tensor o = empty_rows_like(operands.q);
  const Tensor lse = empty_lse(operands.q, false);
  run_block_attention(call, view_of(o), view_of(lse));
  return std::tuple(o, lse);
}

std::tuple<Tensor, Tensor, Tensor> block_attention_backward(
    const Tensor& d_o, const OptionalTensor& d_lse, const Tensor& q, const Tensor& k,
    const Tensor& v, const Tensor& o, const Tensor& lse, const Tensor& block_indices,
    const OptionalTensor& block_counts, const OptionalTensor& alibi_slopes, std::int64_t block_size,
    std::int64_t q_block_size, bool causal, std::int64_t q_offset, std::optional<double> scale,
    double soft_cap, bool deterministic) {
  const DeviceScope device(q);
  const BlockArguments arguments{with_contiguous_rows(block_indices),
                                 block_counts,
                                 contiguous(alibi_slopes),
                                 block_size,
                                 q_block_size,
                                 causal,
                                 q_offset,
                                 scale,
                                 soft_cap};
  const Operands operands(q, k, v);
  const BlockAttentionCall call = arguments.call_of(operands, device.stream());
  const Gradients gradients(operands, {d_o, d_lse, o, lse});
  run_block_attention_backward(call, gradients.views(deterministic));
  return gradients.of_operands();
}

// The tensors' device is looked at inside, where a build without its kernels can say so.
template <class Library>
void implement(Library& library) {
  library.impl("attention", TORCH_BOX(&attention));
  library.impl("attention.by_values", TORCH_BOX(&attention_by_values));
  library.impl("attention_backward", TORCH_BOX(&attention_backward));
  library.impl("attention_backward.by_values", TORCH_BOX(&attention_backward_by_values));
  library.impl("block_attention", TORCH_BOX(&block_attention));
  library.impl("block_attention_backward", TORCH_BOX(&block_attention_backward));
}

}  // namespace

// Tensors come first and without keywords, as torch.library.register_autograd wants them. The
// overloads that plan from the values of tensors need a tag, which can only be given from Python:
// perpend/_operators.py has their schemas.
STABLE_TORCH_LIBRARY(perpend, library) {
  library.def(
      "attention(Tensor q, Tensor k, Tensor v, str mask, Tensor? alibi_slopes=None, *, "
      "str[]? sequence_masks=None, str[]? bindings=None, SymInt[] q_offset=[], float? scale=None, "
      "float soft_cap=0.0, bool deterministic=True) -> (Tensor o, Tensor lse)");
  library.def(
      "attention_backward(Tensor d_o, Tensor? d_lse, Tensor q, Tensor k, Tensor v, Tensor o, "
      "Tensor lse, str mask, Tensor? alibi_slopes=None, *, str[]? sequence_masks=None, "
      "str[]? bindings=None, SymInt[] q_offset=[], float? scale=None, float soft_cap=0.0, "
      "bool deterministic=True) -> (Tensor dq, Tensor dk, Tensor dv)");
  library.def(
      "block_attention(Tensor q, Tensor k, Tensor v, Tensor block_indices, "
      "Tensor? block_counts=None, Tensor? alibi_slopes=None, *, SymInt block_size, "
      "SymInt q_block_size, bool causal=False, SymInt q_offset=0, float? scale=None, "
      "float soft_cap=0.0, bool deterministic=True) -> (Tensor o, Tensor lse)");
  library.def(
      "block_attention_backward(Tensor d_o, Tensor? d_lse, Tensor q, Tensor k, Tensor v, Tensor o, "
      "Tensor lse, Tensor block_indices, Tensor? block_counts=None, Tensor? alibi_slopes=None, *, "
      "SymInt block_size, SymInt q_block_size, bool causal=False, SymInt q_offset=0, "
      "float? scale=None, float soft_cap=0.0, bool deterministic=True) "
      "-> (Tensor dq, Tensor dk, Tensor dv)");
}

STABLE_TORCH_LIBRARY_IMPL(perpend, CPU, library) { implement(library); }
STABLE_TORCH_LIBRARY_IMPL(perpend, CUDA, library) { implement(library); }

}  // namespace perpend::python
