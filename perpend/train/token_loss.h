#pragma once

#include <string>
#include <utility>

#include "perpend/train/loss.h"
#include "perpend/train/target_rows.h"

namespace perpend {

// Cross-entropy of the targets of some rows of a batch: the sum by their weights over the sum of
// their counts. Rows of weight 0 cost nothing.
class TokenLoss : public Loss {
 public:
  std::string name() const override { return name_; }
  double count(const PackedBatch& batch) const override;
  torch::Tensor sum(const LossInput& input) const override;

 protected:
  TokenLoss(std::string name, TokenRows rows) : name_(std::move(name)), rows_(rows) {}

 private:
  std::string name_;
  TokenRows rows_;
};

}  // namespace perpend
