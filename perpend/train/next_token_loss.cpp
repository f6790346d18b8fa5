#include "perpend/train/next_token_loss.h"

#include <numeric>

#include "perpend/nn/cross_entropy.h"
#include "perpend/train/target_rows.h"

namespace perpend {

double NextTokenLoss::count(const PackedBatch& batch) const {
  return std::accumulate(batch.weights.begin(), batch.weights.end(), 0.0);
}

torch::Tensor NextTokenLoss::sum(const LossInput& input) const {
  const TargetRows rows = target_rows(input);
  return cross_entropy_sum(rows.hidden, input.head, rows.targets, rows.weights);
}

}  // namespace perpend
