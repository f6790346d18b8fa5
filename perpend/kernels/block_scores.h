#pragma once

#include "perpend/core/stream.h"
#include "perpend/core/tensor_view.h"

namespace perpend {

// How much of the attention of a few query rows falls on each block of keys: the score that ranks
// documents in BlockRank (arXiv:2510.05396, section 3). For row i, query head h and key j of any
// block, keys of no block being left out,
//   alpha(i, h, j) = softmax over j of scale * q(i, h) . k(j, kv head of h)
//   score(b)       = mean over i and h of the sum of alpha(i, h, j) over the keys j of block b
//   q       [rows, num_q_heads, head_dim] f32, f16 or bf16
//   k       [num_keys, num_kv_heads, head_dim] as q;  num_q_heads % num_kv_heads == 0
//   indptr  [blocks + 1] i32, where q is, ascending from 0 to num_keys: block b has the keys
//           [indptr[b], indptr[b + 1])
//   alpha   [rows, num_q_heads, num_keys] f32, dense, written
//   scores  [blocks] f32, written; they sum to 1, a block without keys has 0
// Statistics are f32, sums f64. Bitwise equal from run to run and for any number of threads.
// rows, num_keys and blocks are at least 1.
struct BlockScoresArgs {
  TensorView q;
  TensorView k;
  TensorView indptr;
  TensorView alpha;
  TensorView scores;
  float scale = 0.0F;  // 0 means 1 / sqrt(head_dim)
};

}  // namespace perpend
