#include "perpend/train/forward_batch.h"

#include <utility>

#include "perpend/train/device_tensor.h"

namespace perpend {

LossInput forward_batch(const DifferentiableModel& model, const PackedBatch& batch,
                        const std::vector<BatchMasks>& layer_masks, const ForwardOptions& options) {
  TrainInput input;
  input.tokens = device_tensor(batch.tokens, torch::kCPU);
  input.positions = device_tensor(batch.positions, torch::kCPU);
  input.q_indptr = device_tensor(batch.q_indptr, torch::kCPU);
  input.layer_masks = layer_masks;
  input.captured_layers = options.captured_layers;
  input.recompute = options.recompute;
  TrainOutput output = model.train_forward(input);
  return {.batch = batch,
          .hidden = std::move(output.hidden),
          .head = model.head_weight(),
          .captured = std::move(output.captured)};
}

}  // namespace perpend
