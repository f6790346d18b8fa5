#pragma once

#include <torch/types.h>

#include "perpend/kernels/rotary.h"

namespace perpend {

// Turns pairs of values of each head by the angles of its row: the rotary embedding of
// arXiv:2104.09864, differentiable by x.
//   x         [rows, heads, head_dim], any floating-point type
//   cos, sin  [rows, rotary_dim / 2] f32; values beyond rotary_dim are kept
// Returns a dense tensor of the type of x.
torch::Tensor rotate(const torch::Tensor& x, const torch::Tensor& cos, const torch::Tensor& sin,
                     RotaryLayout layout);

}  // namespace perpend
