#include "perpend/train/padded_dataset.h"

#include <algorithm>
#include <utility>

#include "perpend/core/error.h"
#include "perpend/core/range.h"

namespace perpend {

PaddedDataset::PaddedDataset(std::shared_ptr<const Dataset> source, const Padding& padding)
    : source_(std::move(source)), padding_(padding) {
  check(padding.multiple >= 1, "data: padding needs blocks of at least one token");
}

std::int64_t PaddedDataset::num_tokens(std::int64_t index) const {
  const std::int64_t length = std::max(source_->num_tokens(index), padding_.length);
  return ceil_div(length, padding_.multiple) * padding_.multiple;
}

TrainingSequence PaddedDataset::get(std::int64_t index, std::int64_t epoch) const {
  TrainingSequence sequence = source_->get(index, epoch);
  check(sequence.targets.empty() && sequence.positions.empty() && sequence.labels.empty() &&
            sequence.lists.empty(),
        "data: sequences with targets, positions, labels or lists can not be padded");
  const auto length = static_cast<std::size_t>(num_tokens(index));
  if (sequence.weights.empty()) sequence.weights.assign(sequence.tokens.size(), 1.0F);
  sequence.tokens.resize(length, padding_.token);
  sequence.weights.resize(length, padding_.weight);
  return sequence;
}

}  // namespace perpend
