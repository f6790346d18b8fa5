#pragma once

#include <functional>
#include <vector>

#include <torch/types.h>

namespace perpend {

// f(x) whose intermediate values are not kept for the backward pass but computed once more there
// (arXiv:1604.06174). `leaves`: what else f reads and wants gradients for. f must give the same
// values each time.
using RecomputedFunction = std::function<std::vector<torch::Tensor>(const torch::Tensor& x)>;
std::vector<torch::Tensor> recomputed(const RecomputedFunction& f, const torch::Tensor& x,
                                      const std::vector<torch::Tensor>& leaves);

}  // namespace perpend
