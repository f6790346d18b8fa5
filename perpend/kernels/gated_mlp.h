#pragma once

#include "perpend/core/stream.h"
#include "perpend/core/tensor_view.h"

namespace perpend {

enum class Activation { kSilu, kGelu, kGeluTanh };

// out = activation(gate) * up (Shazeer 2020, arXiv:2002.05202).
//   gate_up [rows, 2 * ffn_dim] f32, on a GPU also bf16 or f16: gate in the first half of a row, up
//           in the second
//   out     [rows, ffn_dim], of the type of gate_up; each value is computed in f32
struct GatedMlpArgs {
  TensorView gate_up;
  TensorView out;
  Activation activation = Activation::kSilu;
};

// The gradient of GatedMlpArgs with kSilu, by gate_up.
//   gate_up, d_gate_up [rows, 2 * ffn_dim];  d_out [rows, ffn_dim], all f16 or all bf16, dense
struct GatedMlpGradArgs {
  TensorView gate_up;
  TensorView d_out;
  TensorView d_gate_up;
};

}  // namespace perpend
