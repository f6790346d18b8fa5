#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <torch/types.h>

#include "perpend/nn/self_attention.h"
#include "perpend/train/packed_batch.h"

namespace perpend {

// What a forward pass over one batch yields for losses.
struct LossInput {
  const PackedBatch& batch;
  torch::Tensor hidden;                  // [rows, model_dim], behind the final norm
  torch::Tensor head;                    // [vocab_size, model_dim]
  std::map<int, RotatedHeads> captured;  // of the layers that the losses asked for
};

// A term of what training makes small: sum over batches of sum() / sum over batches of count().
// Both together, so that several passes that make up one step weigh as one.
class Loss {
 public:
  virtual ~Loss() = default;

  // As logs call it.
  virtual std::string name() const = 0;
  // Layers whose turned q and k sum() reads.
  virtual std::vector<int> captured_layers() const { return {}; }
  virtual double count(const PackedBatch& batch) const = 0;
  // A differentiable scalar, f32 or f64. Only called for batches whose count is positive. Throws
  // InvalidArgument for a batch without what the loss reads.
  virtual torch::Tensor sum(const LossInput& input) const = 0;
};

struct WeightedLoss {
  std::shared_ptr<const Loss> loss;
  double weight = 1.0;
};

}  // namespace perpend
