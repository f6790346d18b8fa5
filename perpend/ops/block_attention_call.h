#pragma once

#include <cstdint>
#include <vector>

#include "perpend/kernels/block_attention.h"
#include "perpend/mask/mask.h"
#include "perpend/ops/attention_call.h"

namespace perpend {

// Attention over lists of key blocks as the operators of C++ and Python take it, without Torch. On
// a GPU the lists stay there (see BlockAttentionPlan); on the CPU they become masks.
struct BlockAttentionCall {
  AttentionCall attention;  // a dense batch, with at most one q_offset
  // Where q is:
  TensorView block_indices;  // [batch, heads, num_q_blocks, max_blocks] i32; heads: 1, those of k
                             // or those of q
  TensorView block_counts = {};   // [batch, heads, num_q_blocks] i32; absent: all entries count
  std::int64_t block_size = 0;    // keys of a block
  std::int64_t q_block_size = 0;  // queries of a list
  bool causal = false;
};

// Lengths and sizes of a call. Throws InvalidArgument naming the operand that does not fit.
BlockAttentionSpec spec_of(const BlockAttentionCall& call);

// The masks that the lists of a call on the CPU stand for, one for each sequence.
std::vector<Mask> masks_of(const BlockAttentionCall& call);

// Writes o and lse (see AttentionCallGrads). Throws as attention_forward() and, on a GPU,
// make_block_attention_plan().
void run_block_attention(const BlockAttentionCall& call, const TensorView& o,
                         const TensorView& lse);

// Writes dq, dk and dv.
void run_block_attention_backward(const BlockAttentionCall& call, const AttentionCallGrads& grads);

}  // namespace perpend
