// The layers as autograd records them: ordinary operations of LibTorch on the same weights, and our
// attention.

#include <ATen/ops/gelu.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/silu.h>

#include "perpend/nn/adapted_linear.h"
#include "perpend/nn/fused_training.h"
#include "perpend/nn/gated_mlp.h"
#include "perpend/nn/rms_norm.h"
#include "perpend/nn/self_attention.h"
#include "perpend/ops/attention.h"

namespace perpend {
namespace {

torch::Tensor activated(const torch::Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::kSilu:
      return at::silu(x);
    case Activation::kGelu:
      return at::gelu(x);
    case Activation::kGeluTanh:
      return at::gelu(x, "tanh");
  }
  bug("activated: unknown activation");
}

}  // namespace

void Linear::add_adapter(LoraAdapter adapter) {
  const torch::Tensor& w = weight();
  const bool fits = adapter.down.dim() == 2 && adapter.up.dim() == 2 &&
                    adapter.down.size(1) == in_features() &&
                    adapter.up.size(1) == adapter.down.size(0) && adapter.first_output >= 0 &&
                    adapter.first_output + adapter.up.size(0) <= out_features();
  check(fits,
        concat("linear: an adapter of ", adapter.down.sizes(), " and ", adapter.up.sizes(),
               " from output ", adapter.first_output, " does not fit a weight of ", w.sizes()));
  const bool same = adapter.down.options().type_equal(w.options()) &&
                    adapter.up.options().type_equal(w.options());
  check(same, "linear: an adapter and the weight are of one type and device");
  adapters_.push_back(std::move(adapter));
}

void Linear::merge_adapters() {
  const at::NoGradGuard no_grad;
  for (const LoraAdapter& adapter : adapters_) {
    torch::Tensor rows = weight().narrow(0, adapter.first_output, adapter.up.size(0));
    const torch::Tensor delta =
        at::matmul(adapter.up.to(torch::kFloat32), adapter.down.to(torch::kFloat32));
    rows.copy_(rows.to(torch::kFloat32).add_(delta, adapter.scale));
  }
  adapters_.clear();
}

torch::Tensor Linear::train_forward(const torch::Tensor& x) const {
  if (adapters_.empty()) return at::linear(x, weight(), bias());
  return adapted_linear(x, weight(), bias(), adapters_);
}

NormedSum RmsNorm::train_forward(const torch::Tensor& residual, const torch::Tensor& delta,
                                 torch::ScalarType type) const {
  return add_rms_norm(residual, delta, weight_, epsilon_, type);
}

torch::Tensor GatedMlp::train_forward(const torch::Tensor& x) const {
  const torch::Tensor gate_up = gate_up_.train_forward(x);
  if (activation_ == Activation::kSilu) return down_.train_forward(gated_silu(gate_up));
  const auto halves = gate_up.chunk(2, 1);
  return down_.train_forward(activated(halves[0], activation_) * halves[1]);
}

SelfAttention::TrainOutput SelfAttention::train_forward(const torch::Tensor& x,
                                                        const TrainBatch& batch,
                                                        std::span<const Mask> masks) const {
  const std::int64_t num_q = config_.num_q_heads;
  const std::int64_t num_kv = config_.num_kv_heads;
  const torch::Tensor qkv =
      qkv_.train_forward(x).view({x.size(0), num_q + 2 * num_kv, config_.head_dim});
  const TurnedQkv turned = turn_heads(qkv, num_kv, batch.cos, batch.sin, config_.rotary_layout);
  const AttentionOutput attended =
      attention(turned.q, turned.k, turned.v, masks,
                {.q_indptr = batch.q_indptr, .kv_indptr = batch.q_indptr});
  const torch::Tensor heads = attended.o.reshape({x.size(0), num_q * config_.head_dim});
  return {.out = out_.train_forward(heads), .heads = {turned.q, turned.k}};
}

}  // namespace perpend
