#pragma once

#include "perpend/ops/attention.h"

namespace perpend {

struct BlockAttentionOptions {
  std::int64_t block_size = 64;   // keys of a block
  std::int64_t q_block_size = 0;  // queries of a list; 0: block_size
  torch::Tensor block_counts =
      {};               // [batch, heads, num_q_blocks] i32; undefined: all entries count
  bool causal = false;  // of the blocks, only pairs with key position <= query position
  AttentionOptions attention = {};  // without indptrs, with at most one q_offset
};

// Attention in which each block of queries sees the blocks of keys that a list names, with
// gradients by q, k and v; operands and outputs as attention() has them in a dense batch.
//   block_indices [batch, heads, num_q_blocks, max_blocks] i32, where q is; heads: 1, those of k or
//                 those of q. The key blocks of each query block in any order; repeats count once,
//                 what is no block (-1, or beyond the last) not at all
// On a GPU the lists are planned there, forward and backward, without a copy to the host: a
// captured graph runs whatever they hold when it is launched. block_size is 16, 32, 64 or a
// multiple of 128 there (of 64 from head_dim 129 on). Throws as attention().
AttentionOutput block_attention(const torch::Tensor& q, const torch::Tensor& k,
                                const torch::Tensor& v, const torch::Tensor& block_indices,
                                const BlockAttentionOptions& options = {});

}  // namespace perpend
