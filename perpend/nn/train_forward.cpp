// The layers as autograd records them: ordinary operations of LibTorch on the same weights, and our
// attention.

#include <ATen/ops/gelu.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/silu.h>

#include "perpend/nn/gated_mlp.h"
#include "perpend/nn/rms_norm.h"
#include "perpend/nn/rotate.h"
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
  const torch::Tensor y = at::linear(x, weight(), bias());
  for (const LoraAdapter& adapter : adapters_) {
    const torch::Tensor delta = at::linear(at::linear(x, adapter.down), adapter.up);
    y.narrow(1, adapter.first_output, adapter.up.size(0)).add_(delta, adapter.scale);
  }
  return y;
}

torch::Tensor RmsNorm::train_forward(const torch::Tensor& x) const {
  return at::rms_norm(x, weight_.sizes(), weight_, epsilon_);
}

torch::Tensor GatedMlp::train_forward(const torch::Tensor& x) const {
  const torch::Tensor gate_up = gate_up_.train_forward(x);
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
  // Split rather than narrowed, so that the gradient is put together in one pass.
  const auto turned_and_v = qkv.split_with_sizes({num_q + num_kv, num_kv}, 1);
  const auto q_and_k = rotate(turned_and_v[0], batch.cos, batch.sin, config_.rotary_layout)
                           .split_with_sizes({num_q, num_kv}, 1);
  const AttentionOutput attended =
      attention(q_and_k[0], q_and_k[1], turned_and_v[1], masks,
                {.q_indptr = batch.q_indptr, .kv_indptr = batch.q_indptr});
  const torch::Tensor heads = attended.o.reshape({x.size(0), num_q * config_.head_dim});
  return {.out = out_.train_forward(heads), .heads = {q_and_k[0], q_and_k[1]}};
}

}  // namespace perpend
