#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "perpend/kernels/attention.h"
#include "perpend/mask/mask.h"

namespace perpend {

// One call of attention as the operators of C++ and Python take it, without Torch. Operands lie as
// in torch.nn.functional.scaled_dot_product_attention, heads before tokens:
//   q     [batch, num_q_heads, q_len, head_dim]
//   k, v  [batch, num_kv_heads, kv_len, head_dim]
// or ragged, when both indptrs are given, with the tokens of all sequences one after another:
//   q     [total_q, num_q_heads, head_dim]
//   k, v  [total_kv, num_kv_heads, head_dim]
// Dtypes and strides are those of AttentionArgs.
struct AttentionCall {
  TensorView q;
  TensorView k;
  TensorView v;
  TensorView q_indptr = {};   // [batch + 1] i32 of the host, from 0 to total_q
  TensorView kv_indptr = {};  // [batch + 1] i32 of the host, from 0 to total_kv
  // Position of the first query: none for 0, one for all sequences, or one for each.
  std::vector<std::int64_t> q_offsets;
  float scale = 0.0F;  // 0: 1 / sqrt(head_dim)
  ScoreChange score = {};
  int num_threads = 0;  // for operands on the CPU; 0: one for each core
  Stream gpu = {};      // for operands on a GPU: where it runs
};

// What the call returned and the gradients by it, and where those by q, k and v go.
//   o, d_o as q    lse, d_lse  [batch, num_q_heads, q_len], ragged [num_q_heads, total_q]
struct AttentionCallGrads {
  TensorView o;
  TensorView lse;
  TensorView d_o;
  TensorView d_lse = {};  // absent: zero
  TensorView dq;
  TensorView dk;
  TensorView dv;
  bool deterministic = true;  // as in AttentionGradArgs
};

// Lengths, positions and heads of a call. Throws InvalidArgument naming the operand that does not
// fit.
AttentionShape shape_of(const AttentionCall& call);

// The call as kernels take it, and where it runs.
AttentionSpec spec_of(const AttentionCall& call);
AttentionArgs kernel_args(const AttentionCall& call, const TensorView& o, const TensorView& lse);
AttentionGradArgs kernel_args(const AttentionCall& call, const AttentionCallGrads& grads);
Stream stream_of(const AttentionCall& call);

// Throws InvalidArgument when the host can not wait for a copy of `name`, which is on a GPU,
// because the GPU's stream is being captured into a graph.
void check_can_copy(std::string_view name, Device device, Stream gpu);

// Writes o and lse (see AttentionCallGrads), with schedules from schedule_cache(). `masks`: one, or
// one for each sequence. Throws as compile() and attention_forward().
void run_attention(const AttentionCall& call, std::span<const Mask> masks, const TensorView& o,
                   const TensorView& lse);

// Writes dq, dk and dv. Throws as compile() and attention_backward().
void run_attention_backward(const AttentionCall& call, std::span<const Mask> masks,
                            const AttentionCallGrads& grads);

}  // namespace perpend
