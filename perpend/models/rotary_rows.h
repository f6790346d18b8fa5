#pragma once

#include <string_view>

#include <torch/types.h>

#include "perpend/models/model_config.h"

namespace perpend {

// Whether a tensor or matrix of that Hugging Face name holds rows of q or k.
bool is_of_turned_rows(std::string_view name);

// The rows of q or k, of a matrix [heads * head_dim, n] or a bias [heads * head_dim]: from the
// order in which the model keeps them to that of Hugging Face files, where a pair that turns
// together lies half of rotary_dim apart, and back. The tensor itself where the orders are one.
torch::Tensor to_half_split(const torch::Tensor& rows, const ModelConfig& config);
torch::Tensor from_half_split(const torch::Tensor& rows, const ModelConfig& config);

}  // namespace perpend
