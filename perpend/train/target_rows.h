#pragma once

#include <torch/types.h>

#include "perpend/train/loss.h"

namespace perpend {

// Rows of the noised copies at the front of sequences, or the others.
enum class TokenRows { kClean, kNoised };

// The rows of a pass that predict something: those of positive weight, in order.
struct TargetRows {
  torch::Tensor hidden;   // [targets, model_dim]
  torch::Tensor targets;  // [targets] i64
  torch::Tensor weights;  // [targets] f32
};

// Throws InvalidArgument for a target outside the vocabulary.
TargetRows target_rows(const LossInput& input, TokenRows rows = TokenRows::kClean);

// The sum of their counts.
double target_count(const PackedBatch& batch, TokenRows rows);

}  // namespace perpend
