#include "perpend/train/target_rows.h"

#include <cstdint>
#include <vector>

#include <ATen/ops/index_select.h>

#include "perpend/core/demand.h"
#include "perpend/train/device_tensor.h"

namespace perpend {

namespace {

template <class F>
void for_each_row(const PackedBatch& batch, TokenRows rows, F visit) {
  for (std::size_t s = 0; s < batch.num_sequences(); ++s) {
    const Range range = rows == TokenRows::kClean ? batch.clean_rows(s) : batch.noised_rows(s);
    for (std::int64_t row = range.begin; row < range.end; ++row) {
      visit(static_cast<std::size_t>(row));
    }
  }
}

}  // namespace

TargetRows target_rows(const LossInput& input, TokenRows rows) {
  const PackedBatch& batch = input.batch;
  const std::int64_t vocab_size = input.head.size(0);
  std::vector<std::int64_t> chosen;
  std::vector<std::int64_t> targets;
  std::vector<float> weights;
  for_each_row(batch, rows, [&](std::size_t row) {
    if (batch.weights[row] == 0) return;
    demand(batch.targets[row] < vocab_size, "training: target ", batch.targets[row],
           " is outside the vocabulary of ", vocab_size);
    chosen.push_back(static_cast<std::int64_t>(row));
    targets.push_back(batch.targets[row]);
    weights.push_back(batch.weights[row]);
  });
  const torch::Device device = input.hidden.device();
  const bool all = chosen.size() == batch.weights.size();
  return {.hidden =
              all ? input.hidden : at::index_select(input.hidden, 0, device_tensor(chosen, device)),
          .targets = device_tensor(targets, device),
          .weights = device_tensor(weights, device)};
}

double target_count(const PackedBatch& batch, TokenRows rows) {
  double count = 0;
  for_each_row(batch, rows, [&](std::size_t row) { count += batch.counts[row]; });
  return count;
}

}  // namespace perpend
