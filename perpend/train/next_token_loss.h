#pragma once

#include <string>

#include "perpend/train/loss.h"

namespace perpend {

// Cross-entropy of the batch's targets: the mean by their weights. Rows of weight 0 cost nothing.
class NextTokenLoss final : public Loss {
 public:
  std::string name() const override { return "next_token"; }
  double count(const PackedBatch& batch) const override;
  torch::Tensor sum(const LossInput& input) const override;
};

}  // namespace perpend
