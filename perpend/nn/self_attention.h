#pragma once

#include <memory>

#include <torch/types.h>

#include "perpend/cache/kv_batch.h"
#include "perpend/nn/context.h"
#include "perpend/nn/linear.h"
#include "perpend/nn/rotary.h"

namespace perpend {

// What the attention layers of one forward pass share.
struct AttentionBatch {
  AttentionShape shape;     // sequences, heads
  torch::Tensor q_indptr;   // [batch + 1] i32
  torch::Tensor positions;  // [rows] i32
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

  // residual += out(attention(rotary(qkv(x)))); writes the keys and values of x into `kv`.
  // x, residual [rows, model_dim] f32.
  void add_to(const torch::Tensor& residual, const torch::Tensor& x, const AttentionBatch& batch,
              const KvLayerView& kv, const Schedule& schedule, Context& context) const;

  // The queries, or the keys, of the rows of x, turned by `positions` [rows] i32, and nothing else
  // of the layer: [rows, heads, head_dim] f32, rows may lie apart.
  torch::Tensor queries(const torch::Tensor& x, const torch::Tensor& positions,
                        Context& context) const;
  torch::Tensor keys(const torch::Tensor& x, const torch::Tensor& positions,
                     Context& context) const;

  std::size_t num_bytes() const { return qkv_.num_bytes() + out_.num_bytes(); }

 private:
  torch::Tensor turned(int first_head, int num_heads, const torch::Tensor& x,
                       const torch::Tensor& positions, Context& context) const;

  Config config_;
  Linear qkv_;
  Linear out_;
  std::shared_ptr<RotaryTables> rotary_;
};

}  // namespace perpend
