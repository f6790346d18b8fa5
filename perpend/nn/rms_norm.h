#pragma once

#include <torch/types.h>

#include "perpend/nn/context.h"
#include "perpend/nn/fused_training.h"

namespace perpend {

struct KeptRows;

// x / rms(x) * weight over the last axis (arXiv:1910.07467).
class RmsNorm {
 public:
  RmsNorm() = default;
  // weight [dim] f32.
  RmsNorm(torch::Tensor weight, float epsilon) : weight_(std::move(weight)), epsilon_(epsilon) {}

  // [rows, dim] f32 -> the same shape, of the type of the context, in the workspace. `kept`: where
  // the rows of x themselves stay too.
  torch::Tensor forward(const torch::Tensor& x, Context& context,
                        const KeptRows* kept = nullptr) const;

  // The same of residual + delta, recorded by autograd, and the sum: see add_rms_norm().
  NormedSum train_forward(const torch::Tensor& residual, const torch::Tensor& delta,
                          torch::ScalarType type) const;

  const torch::Tensor& weight() const { return weight_; }

 private:
  torch::Tensor weight_;
  float epsilon_ = 1e-5F;
};

}  // namespace perpend
