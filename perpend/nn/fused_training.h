#pragma once

#include <torch/types.h>

#include "perpend/kernels/norm.h"
#include "perpend/kernels/rotary.h"

namespace perpend {

// Operations of training that autograd records, each a kernel forward and one backward where the
// device of the operands has them and takes their types and sizes; elsewhere what LibTorch has.

// sum = residual + delta in f32, normed = sum / rms(sum) * weight, rounded to `type` (f64 with
// f64).
//   residual [rows, dim] f32;  delta [rows, dim] of `type`, undefined for none;  weight [dim] f32
// The sum is to be used instead of the residual from there on: gradients meet in the kernel.
struct NormedSum {
  torch::Tensor sum;
  torch::Tensor normed;
};
NormedSum add_rms_norm(const torch::Tensor& residual, const torch::Tensor& delta,
                       const torch::Tensor& weight, double epsilon, torch::ScalarType type);

// The heads of a projection, with those of q and k turned by the angles of their rows.
//   qkv [rows, num_q_heads + 2 * num_kv_heads, head_dim];  cos, sin [rows, rotary_dim / 2] f32
struct TurnedQkv {
  torch::Tensor q;  // [rows, num_q_heads, head_dim]
  torch::Tensor k;  // [rows, num_kv_heads, head_dim]
  torch::Tensor v;
};
TurnedQkv turn_heads(const torch::Tensor& qkv, std::int64_t num_kv_heads, const torch::Tensor& cos,
                     const torch::Tensor& sin, RotaryLayout layout);

// silu(gate) * up: gate_up [rows, 2 * ffn_dim], gate in the first half of a row -> [rows, ffn_dim]
torch::Tensor gated_silu(const torch::Tensor& gate_up);

}  // namespace perpend
