#pragma once

#include <optional>

#include <torch/types.h>

namespace perpend {

// A tensor that may be missing in the form that functions of autograd take: one that is undefined
// is an error to them.
inline std::optional<torch::Tensor> given(const torch::Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

}  // namespace perpend
