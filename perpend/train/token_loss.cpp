#include "perpend/train/token_loss.h"

#include <ATen/ops/index_select.h>

#include "perpend/core/error.h"
#include "perpend/nn/cross_entropy.h"
#include "perpend/train/device_tensor.h"

namespace perpend {
namespace {

template <class F>
void for_each_row(const PackedBatch& batch, TokenLoss::Rows rows, F visit) {
  for (std::size_t s = 0; s < batch.num_sequences(); ++s) {
    const Range range =
        rows == TokenLoss::Rows::kClean ? batch.clean_rows(s) : batch.noised_rows(s);
    for (std::int64_t row = range.begin; row < range.end; ++row) visit(row);
  }
}

}  // namespace

double TokenLoss::count(const PackedBatch& batch) const {
  double count = 0;
  for_each_row(batch, rows_,
               [&](std::int64_t row) { count += batch.counts[static_cast<std::size_t>(row)]; });
  return count;
}

torch::Tensor TokenLoss::sum(const LossInput& input) const {
  const PackedBatch& batch = input.batch;
  const std::int64_t vocab_size = input.head.size(0);
  std::vector<std::int64_t> rows;
  std::vector<std::int64_t> targets;
  std::vector<float> weights;
  for_each_row(batch, rows_, [&](std::int64_t row) {
    const auto place = static_cast<std::size_t>(row);
    if (batch.weights[place] == 0) return;
    check(batch.targets[place] < vocab_size, concat(name_, " loss: target ", batch.targets[place],
                                                    " is outside the vocabulary of ", vocab_size));
    rows.push_back(row);
    targets.push_back(batch.targets[place]);
    weights.push_back(batch.weights[place]);
  });
  const torch::Device device = input.hidden.device();
  const bool all = rows.size() == batch.weights.size();
  const torch::Tensor x =
      all ? input.hidden : at::index_select(input.hidden, 0, device_tensor(rows, device));
  return cross_entropy_sum(x, input.head, device_tensor(targets, device),
                           device_tensor(weights, device));
}

}  // namespace perpend
