#pragma once

#include <vector>

#include <torch/types.h>

#include "perpend/nn/lora_adapter.h"

namespace perpend {

// W x + b + the low-rank additions of `adapters`, differentiable by x, W, b and the adapters. The
// products through the adapters are added in place, forward and backward, so that nothing but
// [rows, ranks] is made beside the products themselves.
//   x [rows, in_features];  weight [out_features, in_features];  bias [out_features] or undefined
torch::Tensor adapted_linear(const torch::Tensor& x, const torch::Tensor& weight,
                             const torch::Tensor& bias, const std::vector<LoraAdapter>& adapters);

}  // namespace perpend
