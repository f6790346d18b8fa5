#pragma once

#include <vector>

#include "perpend/models/differentiable_model.h"
#include "perpend/train/loss.h"

namespace perpend {

// What else a forward pass over a batch keeps.
struct ForwardOptions {
  std::vector<int> captured_layers;
  bool recompute = false;  // see TrainInput
};

// The model over the rows of one batch, as losses read it; autograd records it where it is on.
// Throws as DifferentiableModel::train_forward does.
LossInput forward_batch(const DifferentiableModel& model, const PackedBatch& batch,
                        const std::vector<BatchMasks>& layer_masks, const ForwardOptions& options);

}  // namespace perpend
