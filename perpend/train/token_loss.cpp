#include "perpend/train/token_loss.h"

#include "perpend/nn/cross_entropy.h"

namespace perpend {

double TokenLoss::count(const PackedBatch& batch) const { return target_count(batch, rows_); }

torch::Tensor TokenLoss::sum(const LossInput& input) const {
  const TargetRows rows = target_rows(input, rows_);
  return cross_entropy_sum(rows.hidden, input.head, rows.targets, rows.weights);
}

}  // namespace perpend
