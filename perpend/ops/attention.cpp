#include "perpend/ops/attention.h"

#include <optional>
#include <utility>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/DeviceGuard.h>
#include <torch/autograd.h>

#include "perpend/ops/any_tensor.h"
#include "perpend/ops/attention_call.h"
#include "perpend/ops/block_attention.h"
#include "perpend/ops/block_attention_call.h"
#include "perpend/ops/tensor_view_of.h"
#include "perpend/ops/torch_stream.h"

namespace perpend {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

TensorView view_of_optional(const torch::Tensor& tensor) {
  return tensor.defined() ? view_of(tensor) : TensorView{};
}

torch::Tensor with_contiguous_rows(const torch::Tensor& tensor) {
  return has_contiguous_rows(tensor) ? tensor : tensor.contiguous();
}

// An uninitialised tensor of the shape and, where rows allow, the layout of `tensor`.
torch::Tensor empty_rows_like(const torch::Tensor& tensor) {
  torch::Tensor empty = torch::empty_like(tensor);
  return has_contiguous_rows(empty) ? empty
                                    : torch::empty_like(tensor, at::MemoryFormat::Contiguous);
}

// On the CPU, where plans are made. Copies of GPU tensors are waited for.
torch::Tensor on_host(std::string_view name, const torch::Tensor& tensor) {
  if (!tensor.defined() || tensor.is_cpu()) return tensor;
  const TensorView view = view_of(tensor);
  check_can_copy(name, view.device, torch_stream_of(tensor));
  return tensor.cpu();
}

// Options as both directions take them.
AttentionOptions prepared(AttentionOptions options) {
  check(!options.alibi_slopes.defined() || !options.alibi_slopes.requires_grad(),
        "attention: alibi_slopes can not have a gradient; detach them");
  options.q_indptr = on_host("q_indptr", options.q_indptr);
  options.kv_indptr = on_host("kv_indptr", options.kv_indptr);
  if (options.alibi_slopes.defined()) options.alibi_slopes = options.alibi_slopes.contiguous();
  return options;
}

// What both directions need besides operands, and how they run.
struct OperatorCall : torch::CustomClassHolder {
  explicit OperatorCall(AttentionOptions options_of_call) : options(std::move(options_of_call)) {}
  virtual void forward(const AttentionCall& call, const TensorView& o,
                       const TensorView& lse) const = 0;
  virtual void backward(const AttentionCall& call, const AttentionCallGrads& grads) const = 0;
  // Which must not change before backward() is called.
  virtual variable_list tensors() const { return {}; }

  AttentionOptions options;
};

struct MaskedCall : OperatorCall {
  MaskedCall(std::span<const Mask> masks_of_call, AttentionOptions options_of_call)
      : OperatorCall(std::move(options_of_call)),
        masks(masks_of_call.begin(), masks_of_call.end()) {}
  void forward(const AttentionCall& call, const TensorView& o,
               const TensorView& lse) const override {
    run_attention(call, masks, o, lse);
  }
  void backward(const AttentionCall& call, const AttentionCallGrads& grads) const override {
    run_attention_backward(call, masks, grads);
  }

  std::vector<Mask> masks;
};

struct BlockCall : OperatorCall {
  BlockCall(torch::Tensor indices, const BlockAttentionOptions& options_of_call)
      : OperatorCall(prepared(options_of_call.attention)),
        block_indices(std::move(indices)),
        blocks(options_of_call) {}
  void forward(const AttentionCall& call, const TensorView& o,
               const TensorView& lse) const override {
    run_block_attention(of_blocks(call), o, lse);
  }
  void backward(const AttentionCall& call, const AttentionCallGrads& grads) const override {
    run_block_attention_backward(of_blocks(call), grads);
  }
  variable_list tensors() const override { return {block_indices, blocks.block_counts}; }

  BlockAttentionCall of_blocks(const AttentionCall& call) const {
    return {.attention = call,
            .block_indices = view_of(block_indices),
            .block_counts = view_of_optional(blocks.block_counts),
            .block_size = blocks.block_size,
            .q_block_size = blocks.q_block_size == 0 ? blocks.block_size : blocks.q_block_size,
            .causal = blocks.causal};
  }

  torch::Tensor block_indices;
  BlockAttentionOptions blocks;
};

AttentionCall call_of(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                      const AttentionOptions& options) {
  AttentionCall call;
  call.q = view_of(q);
  call.k = view_of(k);
  call.v = view_of(v);
  call.q_indptr = view_of_optional(options.q_indptr);
  call.kv_indptr = view_of_optional(options.kv_indptr);
  call.q_offsets = options.q_offsets;
  call.scale = static_cast<float>(options.scale);
  call.score = {static_cast<float>(options.soft_cap), view_of_optional(options.alibi_slopes)};
  call.num_threads = at::get_num_threads();
  call.gpu = torch_stream_of(q);
  return call;
}

torch::Tensor empty_lse(const torch::Tensor& q, bool ragged) {
  const auto options =
      q.options().dtype(q.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32);
  if (ragged) return torch::empty({q.size(1), q.size(0)}, options);
  return torch::empty({q.size(0), q.size(1), q.size(2)}, options);
}

// The gradients as a function of their own, so that asking for theirs is an error and never a
// silent zero.
class AttentionGradFunction : public torch::autograd::Function<AttentionGradFunction> {
 public:
  static variable_list forward(AutogradContext* /*context*/, const torch::Tensor& d_o_given,
                               const std::optional<torch::Tensor>& d_lse_given,
                               const torch::Tensor& q_given, const torch::Tensor& k_given,
                               const torch::Tensor& v_given, const torch::Tensor& o,
                               const torch::Tensor& lse,
                               const c10::intrusive_ptr<OperatorCall>& saved) {
    const c10::DeviceGuard guard(q_given.device());
    const torch::Tensor q = with_contiguous_rows(q_given);
    const torch::Tensor k = with_contiguous_rows(k_given);
    const torch::Tensor v = with_contiguous_rows(v_given);
    const torch::Tensor d_o = with_contiguous_rows(d_o_given);
    const torch::Tensor d_lse = d_lse_given ? d_lse_given->contiguous() : torch::Tensor{};
    const torch::Tensor dq = empty_rows_like(q);
    const torch::Tensor dk = empty_rows_like(k);
    const torch::Tensor dv = empty_rows_like(v);
    saved->backward(call_of(q, k, v, saved->options),
                    {.o = view_of(o),
                     .lse = view_of(lse),
                     .d_o = view_of(d_o),
                     .d_lse = view_of_optional(d_lse),
                     .dq = view_of(dq),
                     .dk = view_of(dk),
                     .dv = view_of(dv),
                     .deterministic = saved->options.deterministic ||
                                      at::globalContext().deterministicAlgorithms()});
    return {dq, dk, dv};
  }

  static variable_list backward(AutogradContext* /*context*/,
                                const variable_list& /*grad_outputs*/) {
    throw Unsupported("attention: second derivatives are not supported, only first ones are");
  }
};

class AttentionFunction : public torch::autograd::Function<AttentionFunction> {
 public:
  static variable_list forward(AutogradContext* context, const torch::Tensor& q_given,
                               const torch::Tensor& k_given, const torch::Tensor& v_given,
                               const c10::intrusive_ptr<OperatorCall>& saved) {
    const c10::DeviceGuard guard(q_given.device());
    const torch::Tensor q = with_contiguous_rows(q_given);
    const torch::Tensor k = with_contiguous_rows(k_given);
    const torch::Tensor v = with_contiguous_rows(v_given);
    const AttentionCall call = call_of(q, k, v, saved->options);
    shape_of(call);  // says what is wrong before anything is allocated
    const torch::Tensor o = empty_rows_like(q);
    const torch::Tensor lse = empty_lse(q, static_cast<bool>(call.q_indptr));
    saved->forward(call, view_of(o), view_of(lse));
    variable_list kept = {q_given, k_given, v_given, o, lse};
    for (const torch::Tensor& tensor : saved->tensors()) kept.push_back(tensor);
    context->save_for_backward(kept);
    context->saved_data["call"] = c10::IValue::make_capsule(saved);
    context->set_materialize_grads(false);
    return {o, lse};
  }

  static variable_list backward(AutogradContext* context, const variable_list& grad_outputs) {
    const variable_list tensors = context->get_saved_variables();
    const auto capsule = context->saved_data["call"].toCapsule();
    const auto saved =
        c10::intrusive_ptr<OperatorCall>::reclaim_copy(static_cast<OperatorCall*>(capsule.get()));
    const torch::Tensor d_o =
        grad_outputs[0].defined() ? grad_outputs[0] : torch::zeros_like(tensors[3]);
    const auto d_lse =
        grad_outputs[1].defined() ? std::make_optional(grad_outputs[1]) : std::nullopt;
    variable_list grads = AttentionGradFunction::apply(d_o, d_lse, tensors[0], tensors[1],
                                                       tensors[2], tensors[3], tensors[4], saved);
    grads.emplace_back();  // of the call itself
    return grads;
  }
};

// Operands may carry derivatives that nothing here would carry on.
void refuse_forward_mode(std::initializer_list<torch::Tensor> operands) {
  for (const torch::Tensor& operand : operands) {
    if (operand._fw_grad(/*level=*/0).defined()) {
      throw Unsupported(
          "attention: forward-mode derivatives are not supported, only those of reverse mode are");
    }
  }
}

AttentionOutput run(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                    const c10::intrusive_ptr<OperatorCall>& call) {
  refuse_forward_mode({q, k, v});
  const variable_list outputs = AttentionFunction::apply(q, k, v, call);
  return {outputs[0], outputs[1]};
}

}  // namespace

AttentionOutput attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                          std::span<const Mask> masks, const AttentionOptions& options) {
  return run(q, k, v, c10::make_intrusive<MaskedCall>(masks, prepared(options)));
}

AttentionOutput attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                          const Mask& mask, const AttentionOptions& options) {
  return attention(q, k, v, std::span(&mask, 1), options);
}

AttentionOutput block_attention(const torch::Tensor& q, const torch::Tensor& k,
                                const torch::Tensor& v, const torch::Tensor& block_indices,
                                const BlockAttentionOptions& options) {
  check(!options.attention.q_indptr.defined() && !options.attention.kv_indptr.defined(),
        "block attention: ragged batches are not supported; give a dense batch");
  return run(q, k, v, c10::make_intrusive<BlockCall>(block_indices, options));
}

}  // namespace perpend
