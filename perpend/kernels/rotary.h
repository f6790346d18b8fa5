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
// Values of a head from rotary_dim on are copied unturned. Without k, v, pages and slots q alone is
// turned. With `kept` ([any, num_q_heads, head_dim] of the type of q) row i of the turned q is
// stored there too, as row places[i] ([rows] i64).
struct RotaryCacheArgs {
  TensorView q;
  TensorView k = {};
  TensorView v = {};
  TensorView positions;
  TensorView cos;
  TensorView sin;
  TensorView k_pages = {};
  TensorView v_pages = {};
  TensorView slots = {};
  RotaryLayout layout = RotaryLayout::kHalfSplit;
  TensorView kept = {};
  TensorView places = {};
};

// Takes the heads of a projection apart and turns those of q and k, or back: with `joins` qkv is
// written, from q and k turned the other way, which is the gradient of the first.
//   qkv       [rows, num_q_heads + 2 * num_kv_heads, head_dim] f16 or bf16
//   q         [rows, num_q_heads, head_dim];  k, v [rows, num_kv_heads, head_dim], of that type
//   cos, sin  [rows, rotary_dim / 2] f32, of each row's position
// All dense. Values of a head from rotary_dim on are copied unturned.
struct RotaryHeadsArgs {
  TensorView qkv;
  TensorView q;
  TensorView k;
  TensorView v;
  TensorView cos;
  TensorView sin;
  RotaryLayout layout = RotaryLayout::kHalfSplit;
  bool joins = false;
};

}  // namespace perpend
