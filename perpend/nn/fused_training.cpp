#include "perpend/nn/fused_training.h"

#include <algorithm>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/DeviceGuard.h>
#include <torch/autograd.h>

#include "perpend/kernels/table.h"
#include "perpend/nn/optional_tensor.h"
#include "perpend/nn/rotate.h"
#include "perpend/ops/tensor_view_of.h"
#include "perpend/ops/torch_stream.h"

namespace perpend {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// CTAs that add up the gradient of a weight: three on each multiprocessor of an H100.
constexpr std::int64_t kMostParts = 396;
constexpr std::int64_t kRowsOfPart = 64;

bool is_16_bit(torch::ScalarType type) {
  return type == torch::kBFloat16 || type == torch::kFloat16;
}

TensorView view_of_optional(const torch::Tensor& tensor) {
  return tensor.defined() ? view_of(tensor) : TensorView{};
}

torch::Tensor dense(const torch::Tensor& tensor) {
  return tensor.defined() ? tensor.contiguous() : tensor;
}

// The kernels of a 16-bit tensor, or empty ones.
const TrainingTable& kernels_of(const torch::Tensor& tensor) {
  static constexpr TrainingTable kNone;
  return tensor.is_cuda() ? cuda_kernels().training : kNone;
}

class AddRmsNormFunction : public torch::autograd::Function<AddRmsNormFunction> {
 public:
  static variable_list forward(AutogradContext* context, const torch::Tensor& residual,
                               const std::optional<torch::Tensor>& delta,
                               const torch::Tensor& weight, double epsilon,
                               torch::ScalarType type) {
    const c10::DeviceGuard guard(residual.device());
    const torch::Tensor x = dense(residual);
    const torch::Tensor added = dense(delta.value_or(torch::Tensor()));
    const torch::Tensor sum = added.defined() ? at::empty_like(x) : torch::Tensor{};
    const torch::Tensor normed = at::empty(x.sizes(), x.options().dtype(type));
    const torch::Tensor inverse = at::empty({x.size(0)}, x.options());
    kernels_of(x).add_rms_norm({.x = view_of(x),
                                .delta = view_of_optional(added),
                                .weight = view_of(weight),
                                .sum = view_of_optional(sum),
                                .out = view_of(normed),
                                .inverse_rms = view_of(inverse),
                                .epsilon = static_cast<float>(epsilon)},
                               torch_stream_of(x));
    context->save_for_backward({added.defined() ? sum : residual, weight, inverse});
    context->saved_data["has_delta"] = added.defined();
    context->saved_data["wants_weight"] = weight.requires_grad();
    context->set_materialize_grads(false);
    return {added.defined() ? sum : residual, normed};
  }

  static variable_list backward(AutogradContext* context, const variable_list& grad_outputs) {
    const variable_list saved = context->get_saved_variables();
    const c10::DeviceGuard guard(saved[0].device());
    const torch::Tensor sum = dense(saved[0]);
    const torch::Tensor& weight = saved[1];
    const torch::Tensor d_sum = dense(grad_outputs[0]);
    if (!grad_outputs[1].defined()) bug("add_rms_norm: a norm that nothing reads");
    const torch::Tensor d_normed = dense(grad_outputs[1]);
    const torch::Tensor d_x = at::empty_like(sum);
    torch::Tensor d_delta;
    torch::Tensor d_weight;
    if (context->saved_data["has_delta"].toBool()) d_delta = at::empty_like(d_normed);
    if (context->saved_data["wants_weight"].toBool()) {
      const std::int64_t parts = std::clamp<std::int64_t>(sum.size(0) / kRowsOfPart, 1, kMostParts);
      d_weight = at::empty({parts, sum.size(1)}, sum.options());
    }
    kernels_of(sum).add_rms_norm_backward({.sum = view_of(sum),
                                           .weight = view_of(weight),
                                           .inverse_rms = view_of(saved[2]),
                                           .d_out = view_of(d_normed),
                                           .d_sum = view_of_optional(d_sum),
                                           .d_x = view_of(d_x),
                                           .d_delta = view_of_optional(d_delta),
                                           .d_weight = view_of_optional(d_weight)},
                                          torch_stream_of(sum));
    if (d_weight.defined()) d_weight = d_weight.sum(0);
    return {d_x, d_delta, d_weight, {}, {}};
  }
};

// q, k and v, dense, of the rows and the type of `like`.
TurnedQkv empty_heads(const torch::Tensor& like, std::int64_t num_q, std::int64_t num_kv) {
  const auto heads = [&](std::int64_t count) {
    return at::empty({like.size(0), count, like.size(2)}, like.options());
  };
  return {heads(num_q), heads(num_kv), heads(num_kv)};
}

void run_rotary_heads(const torch::Tensor& qkv, const TurnedQkv& heads, const torch::Tensor& cos,
                      const torch::Tensor& sin, std::int64_t layout, bool joins) {
  kernels_of(qkv).rotary_heads({.qkv = view_of(qkv),
                                .q = view_of(heads.q),
                                .k = view_of(heads.k),
                                .v = view_of(heads.v),
                                .cos = view_of(cos),
                                .sin = view_of(sin),
                                .layout = static_cast<RotaryLayout>(layout),
                                .joins = joins},
                               torch_stream_of(qkv));
}

class TurnHeadsFunction : public torch::autograd::Function<TurnHeadsFunction> {
 public:
  static variable_list forward(AutogradContext* context, const torch::Tensor& qkv_given,
                               std::int64_t num_kv, const torch::Tensor& cos,
                               const torch::Tensor& sin, std::int64_t layout) {
    const c10::DeviceGuard guard(qkv_given.device());
    const torch::Tensor qkv = dense(qkv_given);
    const TurnedQkv heads = empty_heads(qkv, qkv.size(1) - 2 * num_kv, num_kv);
    run_rotary_heads(qkv, heads, cos, sin, layout, /*joins=*/false);
    context->save_for_backward({cos, sin});
    context->saved_data["layout"] = layout;
    return {heads.q, heads.k, heads.v};
  }

  static variable_list backward(AutogradContext* context, const variable_list& grad_outputs) {
    const variable_list saved = context->get_saved_variables();
    const TurnedQkv grads{dense(grad_outputs[0]), dense(grad_outputs[1]), dense(grad_outputs[2])};
    const c10::DeviceGuard guard(grads.q.device());
    const torch::Tensor d_qkv =
        at::empty({grads.q.size(0), grads.q.size(1) + 2 * grads.k.size(1), grads.q.size(2)},
                  grads.q.options());
    run_rotary_heads(d_qkv, grads, saved[0], saved[1], context->saved_data["layout"].toInt(),
                     /*joins=*/true);
    return {d_qkv, {}, {}, {}, {}};
  }
};

class GatedSiluFunction : public torch::autograd::Function<GatedSiluFunction> {
 public:
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& gate_up_given) {
    const c10::DeviceGuard guard(gate_up_given.device());
    const torch::Tensor gate_up = dense(gate_up_given);
    const torch::Tensor out = at::empty({gate_up.size(0), gate_up.size(1) / 2}, gate_up.options());
    cuda_kernels().fused.gated_mlp(
        {.gate_up = view_of(gate_up), .out = view_of(out), .activation = Activation::kSilu},
        torch_stream_of(gate_up));
    context->save_for_backward({gate_up_given});
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grad_outputs) {
    const torch::Tensor gate_up = dense(context->get_saved_variables()[0]);
    const c10::DeviceGuard guard(gate_up.device());
    const torch::Tensor d_out = dense(grad_outputs[0]);
    torch::Tensor d_gate_up = at::empty_like(gate_up);
    kernels_of(gate_up).gated_mlp_backward(
        {.gate_up = view_of(gate_up), .d_out = view_of(d_out), .d_gate_up = view_of(d_gate_up)},
        torch_stream_of(gate_up));
    return {d_gate_up};
  }
};

}  // namespace

NormedSum add_rms_norm(const torch::Tensor& residual, const torch::Tensor& delta,
                       const torch::Tensor& weight, double epsilon, torch::ScalarType type) {
  const bool is_built = kernels_of(residual).add_rms_norm != nullptr && is_16_bit(type) &&
                        residual.scalar_type() == torch::kFloat32 &&
                        AddRmsNormArgs::fits(residual.size(1));
  if (is_built) {
    const variable_list outputs =
        AddRmsNormFunction::apply(residual, given(delta), weight, epsilon, type);
    return {outputs[0], outputs[1]};
  }
  const torch::Tensor sum = delta.defined() ? residual + delta : residual;
  return {sum, at::rms_norm(sum, weight.sizes(), weight, epsilon).to(type)};
}

TurnedQkv turn_heads(const torch::Tensor& qkv, std::int64_t num_kv_heads, const torch::Tensor& cos,
                     const torch::Tensor& sin, RotaryLayout layout) {
  if (kernels_of(qkv).rotary_heads != nullptr && is_16_bit(qkv.scalar_type())) {
    const variable_list heads =
        TurnHeadsFunction::apply(qkv, num_kv_heads, cos, sin, static_cast<std::int64_t>(layout));
    return {heads[0], heads[1], heads[2]};
  }
  // Split rather than narrowed, so that the gradient is put together in one pass.
  const std::int64_t num_turned = qkv.size(1) - num_kv_heads;
  const auto turned_and_v = qkv.split_with_sizes({num_turned, num_kv_heads}, 1);
  const auto q_and_k = rotate(turned_and_v[0], cos, sin, layout)
                           .split_with_sizes({num_turned - num_kv_heads, num_kv_heads}, 1);
  return {q_and_k[0], q_and_k[1], turned_and_v[1]};
}

torch::Tensor gated_silu(const torch::Tensor& gate_up) {
  if (kernels_of(gate_up).gated_mlp_backward != nullptr && is_16_bit(gate_up.scalar_type())) {
    return GatedSiluFunction::apply(gate_up);
  }
  const auto halves = gate_up.chunk(2, 1);
  return at::silu(halves[0]) * halves[1];
}

}  // namespace perpend
