#pragma once

#include <cstdint>

#include <torch/types.h>

namespace perpend {

// The sum over rows of weights[r] * -log softmax(W x[r])[targets[r]], differentiable by x and W. A
// chunk of logits at a time exists, and its gradients are made along with it, so that memory does
// not grow with rows x vocab_size.
//   x        [rows, model_dim]
//   head     [vocab_size, model_dim], dtype and device of x
//   targets  [rows] i64, in [0, vocab_size)
//   weights  [rows] f32
//   chunk_rows: 0: as many as make a good size for the device
// Returns a scalar: f32, or f64 with f64; softmax runs in that type.
torch::Tensor cross_entropy_sum(const torch::Tensor& x, const torch::Tensor& head,
                                const torch::Tensor& targets, const torch::Tensor& weights,
                                std::int64_t chunk_rows = 0);

}  // namespace perpend
