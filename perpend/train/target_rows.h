#pragma once

#include <torch/types.h>

#include "perpend/train/loss.h"

namespace perpend {

// The rows of a pass that predict something: those of positive weight, in order.
struct TargetRows {
  torch::Tensor hidden;   // [targets, model_dim]
  torch::Tensor targets;  // [targets] i64
  torch::Tensor weights;  // [targets] f32
};

// Throws InvalidArgument for a target outside the vocabulary.
TargetRows target_rows(const LossInput& input);

}  // namespace perpend
