#include "perpend/train/next_token_loss.h"

#include <numeric>

#include <ATen/ops/index_select.h>

#include "perpend/core/demand.h"
#include "perpend/nn/cross_entropy.h"
#include "perpend/train/device_tensor.h"

namespace perpend {

double NextTokenLoss::count(const PackedBatch& batch) const {
  return std::accumulate(batch.weights.begin(), batch.weights.end(), 0.0);
}

torch::Tensor NextTokenLoss::sum(const LossInput& input) const {
  const PackedBatch& batch = input.batch;
  const std::int64_t vocab_size = input.head.size(0);
  std::vector<std::int64_t> rows;
  std::vector<std::int64_t> targets;
  std::vector<float> weights;
  for (std::size_t row = 0; row < batch.weights.size(); ++row) {
    if (batch.weights[row] == 0) continue;
    demand(batch.targets[row] < vocab_size, "next token loss: target ", batch.targets[row],
           " is outside the vocabulary of ", vocab_size);
    rows.push_back(static_cast<std::int64_t>(row));
    targets.push_back(batch.targets[row]);
    weights.push_back(batch.weights[row]);
  }
  const torch::Device device = input.hidden.device();
  const bool all = rows.size() == batch.weights.size();
  const torch::Tensor x =
      all ? input.hidden : at::index_select(input.hidden, 0, device_tensor(rows, device));
  return cross_entropy_sum(x, input.head, device_tensor(targets, device),
                           device_tensor(weights, device));
}

}  // namespace perpend
