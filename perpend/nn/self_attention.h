#pragma once

#include <memory>
#include <span>

#include <torch/types.h>

#include "perpend/cache/kv_batch.h"
#include "perpend/mask/mask.h"
#include "perpend/nn/context.h"
#include "perpend/nn/linear.h"
#include "perpend/nn/rotary.h"

namespace perpend {

// Where the inputs and queries of the rows of a layer stay behind a pass.
struct KeptRows {
  torch::Tensor inputs;   // [any, model_dim] f32
  torch::Tensor queries;  // [any, num_q_heads * head_dim] of the type of the context
  torch::Tensor places;   // of each row there: [rows] i64
};

// What an attention layer reads besides x, all where its kernels run.
struct AttentionInput {
  TensorView positions;  // [rows] i32
  TensorView q_indptr;   // [batch + 1] i32
  KvLayerView kv;
  // Which pairs are live: a schedule, or a plan that another schedule may replace in place.
  const Schedule* schedule = nullptr;
  const AttentionPlan* plan = nullptr;
  const KeptRows* kept = nullptr;
};

// What the attention layers of one pass share that autograd records.
struct TrainBatch {
  torch::Tensor cos;       // [rows, rotary_dim / 2] f32, of each row's position
  torch::Tensor sin;       // the same shape
  torch::Tensor q_indptr;  // [batch + 1] i32 of the host
};

// q and k behind the rotary embedding.
struct RotatedHeads {
  torch::Tensor q;  // [rows, num_q_heads, head_dim]
  torch::Tensor k;  // [rows, num_kv_heads, head_dim]
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

  // out(attention(rotary(qkv(x)))) recorded by autograd, each sequence of the batch for itself:
  // a new tensor of the type of the matrices, as x is. `masks`: one, or one for each sequence.
  struct TrainOutput {
    torch::Tensor out;
    RotatedHeads heads;
  };
  TrainOutput train_forward(const torch::Tensor& x, const TrainBatch& batch,
                            std::span<const Mask> masks) const;

  Linear& qkv() { return qkv_; }
  Linear& out() { return out_; }
  const Linear& qkv() const { return qkv_; }
  const Linear& out() const { return out_; }

  // The keys and values alone; returns the queries [rows, num_q_heads * head_dim], valid as long as
  // the scope of the workspace.
  torch::Tensor cache_keys(const torch::Tensor& x, const AttentionInput& input,
                           Context& context) const;

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
