#pragma once

#include "perpend/core/stream.h"
#include "perpend/core/tensor_view.h"

namespace perpend {

// Which two values of a head are turned together.
enum class RotaryLayout {
  kHalfSplit,    // (x[i], x[i + head_dim / 2]): Hugging Face checkpoints
  kInterleaved,  // (x[2i], x[2i + 1]): the original Llama order, as GGUF stores q and k of Llama
};

// Turns q and k by their positions and writes k and v into the paged store in one pass
// (Su et al. 2021, arXiv:2104.09864).
//   q          [rows, num_q_heads, head_dim] f32, turned in place
//   k, v       [rows, num_kv_heads, head_dim] f32, read only
//              (on a GPU q, k and v may be of the 16-bit type of the pages instead)
//   positions  [rows] i32
//   cos, sin   [max_position, rotary_dim / 2] f32, tables made once for each model
//   k_pages, v_pages  [num_pages, page_size, num_kv_heads, head_dim] f32, f16 or bf16
//   slots      [rows] i64: page * page_size + row in page of each token
// Values of a head from rotary_dim on are copied unturned.
struct RotaryCacheArgs {
  TensorView q;
  TensorView k;
  TensorView v;
  TensorView positions;
  TensorView cos;
  TensorView sin;
  TensorView k_pages;
  TensorView v_pages;
  TensorView slots;
  RotaryLayout layout = RotaryLayout::kHalfSplit;
};

}  // namespace perpend
