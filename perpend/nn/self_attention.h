#pragma once

#include <memory>

#include <torch/types.h>

#include "perpend/cache/kv_batch.h"
#include "perpend/nn/context.h"
#include "perpend/nn/linear.h"
#include "perpend/nn/rotary.h"

namespace perpend {

// What an attention layer reads besides x, all where its kernels run.
struct AttentionInput {
  TensorView positions;  // [rows] i32
  TensorView q_indptr;   // [batch + 1] i32
  KvLayerView kv;
  // Which pairs are live: a schedule, or a plan that another schedule may replace in place.
  const Schedule* schedule = nullptr;
  const AttentionPlan* plan = nullptr;
};

// Multi-head attention with grouped keys over a paged cache and any mask.
class SelfAttention {
 public:
  struct Config {
    int num_q_heads = 0;
    int num_kv_heads = 0;
    int head_dim = 0;
    RotaryLayout rotary_layout = RotaryLayout::kHalfSplit;
  };

  SelfAttention() = default;
  // `qkv` yields q, k and v one after another; `out` maps the heads back to model_dim.
  SelfAttention(const Config& config, Linear qkv, Linear out, std::shared_ptr<RotaryTables> rotary);

  // residual + out(attention(rotary(qkv(x)))), as Linear::add_to(); writes the keys and values of x
  // into its pages. x, residual [rows, model_dim], x of the type of the context.
  torch::Tensor add_to(const torch::Tensor& residual, const torch::Tensor& x,
                       const AttentionInput& input, Context& context) const;

  const Linear& qkv() const { return qkv_; }
  const Linear& out() const { return out_; }

  // The keys and values alone; returns the queries [rows, num_q_heads, head_dim], valid as long as
  // the scope of the workspace.
  TensorView cache_keys(const torch::Tensor& x, const AttentionInput& input,
                        Context& context) const;

  std::size_t num_bytes() const { return qkv_.num_bytes() + out_.num_bytes(); }

 private:
  Config config_;
  Linear qkv_;
  Linear out_;
  std::shared_ptr<RotaryTables> rotary_;
};

}  // namespace perpend
