#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <torch/types.h>

#include "perpend/mask/mask.h"

namespace perpend {

struct AttentionOptions {
  double scale = 0.0;               // multiplier of q k^T; 0: 1 / sqrt(head_dim)
  double soft_cap = 0.0;            // s -> soft_cap * tanh(s / soft_cap); 0: none
  torch::Tensor alibi_slopes = {};  // [num_q_heads] f32, where q is; undefined: none
  // Both undefined for a dense batch, or [batch + 1] i32 from 0 to the number of tokens. Plans are
  // made on the CPU: tensors of a GPU are copied and waited for, and refused while the current
  // stream is being captured.
  torch::Tensor q_indptr = {};
  torch::Tensor kv_indptr = {};
  // Position of the first query: none for 0, one for all sequences, or one for each. A decode step
  // after n keys has n.
  std::vector<std::int64_t> q_offsets = {};
  // Whether gradients have equal bits from run to run (see AttentionGradArgs): always so on the CPU
  // and where at::globalContext().deterministicAlgorithms(), which PyTorch's users set, is true.
  bool deterministic = true;
};

struct AttentionOutput {
  torch::Tensor o;    // as q
  torch::Tensor lse;  // [batch, num_q_heads, q_len], ragged [num_q_heads, total_q]; natural log
};

// Attention under a mask, with gradients by q, k and v through o and lse. Layout of
// torch::scaled_dot_product_attention, heads before tokens:
//   q     [batch, num_q_heads, q_len, head_dim]
//   k, v  [batch, num_kv_heads, kv_len, head_dim]
// or, with both indptrs, ragged: the tokens of all sequences one after another,
//   q     [total_q, num_q_heads, head_dim];  k, v  [total_kv, num_kv_heads, head_dim].
// On the CPU f32, bf16 or f16 (k and v alike, q may differ), or all f64; on a GPU all bf16 or all
// f16. lse is f32, or f64 with f64. num_q_heads is a multiple of num_kv_heads. Any strides; only a
// tensor whose last axis is not contiguous is copied. A query without a visible key has o = 0,
// lse = -inf and zero gradients.
// Bitwise equal from run to run and for any number of threads (torch::get_num_threads() are used),
// gradients unless `deterministic` is given up.
// On a GPU it runs on the current stream of the operands' device and may be captured into a graph,
// which keeps what it needs of the plan.
// `masks`: one, or one for each sequence. Throws InvalidArgument and Unsupported as
// attention_forward(), and for second derivatives and those of forward mode.
AttentionOutput attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                          std::span<const Mask> masks, const AttentionOptions& options = {});
AttentionOutput attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                          const Mask& mask, const AttentionOptions& options = {});

}  // namespace perpend
