#pragma once

#include "perpend/core/stream.h"
#include "perpend/core/tensor_view.h"

namespace perpend {

// out = x / sqrt(mean(x^2) + epsilon) * weight, row by row; sums in f32 in a fixed order.
//   x [rows, dim] f32, last axis contiguous;  weight [dim] f32
//   out [rows, dim] f32, may be the memory of x; on a GPU also bf16 or f16
// With `residual` ([rows, dim] f32) first x += residual, stored back into x, so that the sum is
// read and written once (Zhang and Sennrich 2019, arXiv:1910.07467, plus the residual connection).
struct RmsNormArgs {
  TensorView x;
  TensorView residual;  // may be absent
  TensorView weight;
  TensorView out;
  float epsilon = 1e-5F;
};

}  // namespace perpend
