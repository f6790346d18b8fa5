#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "perpend/core/aligned_buffer.h"
#include "perpend/core/stream.h"
#include "perpend/core/tensor_view.h"
#include "perpend/kernels/attention_plan.h"
#include "perpend/schedule/schedule.h"

namespace perpend {

class BlockAttentionPlan;
class BlockAttentionTables;
struct BlockAttentionSpec;

// What a model does to a score between scale * q k^T and the softmax; nothing by default, at no
// cost. Order: cap, then bias.
struct ScoreChange {
  float soft_cap = 0.0F;  // s -> soft_cap * tanh(s / soft_cap) (Gemma 2, arXiv:2408.00118); 0: none
  // [num_q_heads] f32: s -> s - slope * |q position - k position| (ALiBi, arXiv:2108.12409);
  // absent: none.
  TensorView alibi_slopes = {};
};

// Operands of one attention call. Batches are either dense, with a leading batch axis, or ragged,
// with the tokens of all sequences one after another and an indptr that tells where each begins.
//   q, o  [batch, q_len, num_q_heads, head_dim], ragged [total_q, num_q_heads, head_dim]
//   k, v  [batch, kv_len, num_kv_heads, head_dim], ragged [total_kv, num_kv_heads, head_dim], or
//         paged [num_pages, page_size, num_kv_heads, head_dim] with a page_table
//   lse   [batch, num_q_heads, q_len] or ragged [num_q_heads, total_q], f32; may be absent
// q, k, v are f32, bf16 or f16 (k and v alike, q may differ), or all f64 (with lse f64; the
// portable path on the CPU, for checking gradients); o is f32 or the dtype of q. Any strides, as
// long as the last axis is contiguous. num_q_heads is a multiple of num_kv_heads.
struct AttentionArgs {
  TensorView q;
  TensorView k;
  TensorView v;
  TensorView o;
  TensorView lse = {};
  // [batch + 1] i32, of the host or where q is; absent for a dense batch.
  TensorView q_indptr = {};
  TensorView kv_indptr = {};  // [batch + 1] i32; absent for dense or paged keys
  TensorView page_table =
      {};              // [batch, max_pages] i32: page of each page_size keys; absent otherwise
  float scale = 0.0F;  // multiplier of q k^T; 0 means 1 / sqrt(head_dim)
  ScoreChange score = {};
  AlignedBuffer* scratch = nullptr;  // CPU: grown when too small, kept by the caller between calls
};

// Operands of the gradient of attention_forward: its own operands with the o and lse it wrote (lse
// is required, paged keys are not possible), and
//   d_o         as o, with its dtype;  d_lse  as lse, or absent for zero
//   dq, dk, dv  as q, k, v  written, in the dtype of q or of k, or f32
// Without `deterministic` a device may sum dq in any order, which is faster: its last bits then
// differ from run to run. Hopper GPUs do so with a head_dim of 33 to 128 and no score change, and
// take total_q * num_q_heads * (64 or 128) * 4 bytes more for that time; they keep the two passes
// of `deterministic`, and equal bits, with any other. With `in_turns` they give equal bits by the
// one pass that sums in any order too, in an order that the schedule gives, where little waiting
// is to be expected; two passes elsewhere.
struct AttentionGradArgs {
  AttentionArgs forward;
  TensorView d_o;
  TensorView d_lse = {};
  TensorView dq;
  TensorView dk;
  TensorView dv;
  bool deterministic = true;
  bool in_turns = false;
};

// What a caller wants to run, asked before planning.
struct AttentionSpec {
  DType q_dtype = DType::kF32;
  DType kv_dtype = DType::kF32;
  std::int64_t head_dim = 0;
  bool paged = false;

  friend bool operator==(const AttentionSpec&, const AttentionSpec&) = default;
};

struct AttentionTable {
  // Says no rather than throw late.
  bool (*supports)(const AttentionSpec& spec);
  // What the kernels of this device offer for `spec`, for compile().
  Tiling (*tiling)(const AttentionSpec& spec, Sweep sweep);
  void (*forward)(const AttentionArgs& args, const Schedule& schedule, Stream stream);
  void (*backward)(const AttentionGradArgs& args, const Schedule& rows, const Schedule& columns,
                   Stream stream);
  std::string_view supported;  // what supports() says yes to, in words for errors
  // Of plans that are replaced in place (attention_plan.h); null where there are none.
  PlanCapacity (*plan_capacity)(const AttentionSpec& spec, const Schedule& schedule) = nullptr;
  std::unique_ptr<AttentionPlan> (*make_plan)(const AttentionSpec& spec,
                                              const PlanCapacity& capacity,
                                              Device device) = nullptr;
  // block_attention.h; null where there are no such plans. No stream: memory of the plan's own.
  std::shared_ptr<const BlockAttentionTables> (*make_block_tables)(const BlockAttentionSpec& spec,
                                                                   Device device) = nullptr;
  std::unique_ptr<BlockAttentionPlan> (*make_block_plan)(
      const std::shared_ptr<const BlockAttentionTables>& tables, const Stream* stream) = nullptr;
  // Whether make_plan() has plans for this GPU; null where there are none.
  bool (*has_plans)(Device device) = nullptr;
};

// Throws Unsupported unless the kernels of `device` take `spec`.
void check_supported(const AttentionSpec& spec, Device device);

// o = softmax(scale * q k^T) v over the pairs that `schedule` holds, on the device of the views.
// Accumulates in f32. A row with no live key has o = 0 and lse = -inf. Bitwise equal from run to
// run and for any number of threads. Asynchronous on a CUDA stream. Throws InvalidArgument (shapes,
// dtypes, a schedule of another shape) and Unsupported. Method: FlashAttention-2, arXiv:2307.08691,
// algorithm 1; skipped tiles as in FlexAttention, arXiv:2412.05496.
void attention_forward(const AttentionArgs& args, const Schedule& schedule, Stream stream);

// dq, dk and dv of a loss whose gradients by o and lse are d_o and d_lse. `rows` and `columns` are
// the schedules of one mask and shape for both sweeps. Unless `deterministic` is given up, two
// passes without atomics (or one, see `in_turns`), so that the bits are equal from run to run and
// for any number of threads; rows and keys without a live pair get zeros. Throws as
// attention_forward(). Method:
// FlashAttention-2, arXiv:2307.08691, algorithm 2, with dq in a pass of its own.
void attention_backward(const AttentionGradArgs& args, const Schedule& rows,
                        const Schedule& columns, Stream stream);

}  // namespace perpend
