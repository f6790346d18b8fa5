#pragma once

#include "perpend/core/stream.h"
#include "perpend/core/tensor_view.h"

namespace perpend {

// out = x / sqrt(mean(x^2) + epsilon) * weight, row by row; sums in f32 in a fixed order.
//   x [rows, dim] f32, last axis contiguous;  weight [dim] f32
//   out [rows, dim] f32, may be the memory of x; on a GPU also bf16 or f16
// With `residual` ([rows, dim] f32) first x += residual, stored back into x, so that the sum is
// read and written once (Zhang and Sennrich 2019, arXiv:1910.07467, plus the residual connection).
// With `kept` ([any, dim] f32) row i of x is stored there too, as row places[i] ([rows] i64).
struct RmsNormArgs {
  TensorView x;
  TensorView residual;  // may be absent
  TensorView weight;
  TensorView out;
  float epsilon = 1e-5F;
  TensorView kept = {};  // may be absent
  TensorView places = {};
};

// The same as training needs it, with what its backward pass reads:
//   sum = x + delta, inverse_rms = 1 / sqrt(mean(sum^2) + epsilon), out = sum * inverse_rms *
//   weight x            [rows, dim] f32 delta        [rows, dim] f16 or bf16; absent: zero weight
//   [dim] f32 sum          [rows, dim] f32; absent without delta, when it is x out          [rows,
//   dim] f16 or bf16 inverse_rms  [rows] f32
// All dense; dim a multiple of 4 and at most kMostDim.
struct AddRmsNormArgs {
  static constexpr std::int64_t kMostDim = 2048;
  static bool fits(std::int64_t dim) { return dim > 0 && dim % 4 == 0 && dim <= kMostDim; }

  TensorView x;
  TensorView delta;
  TensorView weight;
  TensorView sum;
  TensorView out;
  TensorView inverse_rms;
  float epsilon = 1e-5F;
};

// Gradients of AddRmsNormArgs. With g = d_out * weight, r = inverse_rms:
//   d_x = d_sum + r g - r^3 / dim * sum_j(g_j sum_j) * sum, and d_weight = sum over rows of
//   d_out * sum * r
//   sum, weight, inverse_rms  as there (x for the sum without delta)
//   d_out     [rows, dim] of the type of out
//   d_sum     [rows, dim] f32; absent: zero
//   d_x       [rows, dim] f32
//   d_delta   [rows, dim] of the type of d_out: d_x, rounded; may be absent
//   d_weight  [parts, dim] f32, to be added up: any number of parts, each a CTA; may be absent
// Bitwise equal from run to run for one number of parts.
struct AddRmsNormGradArgs {
  TensorView sum;
  TensorView weight;
  TensorView inverse_rms;
  TensorView d_out;
  TensorView d_sum;
  TensorView d_x;
  TensorView d_delta;
  TensorView d_weight;
};

}  // namespace perpend
