#include "perpend/train/chunked_dataset.h"

#include <algorithm>
#include <utility>

#include "perpend/core/error.h"

namespace perpend {

ChunkedDataset::ChunkedDataset(std::shared_ptr<const Dataset> source, std::int64_t chunk_tokens,
                               LastRow last_row)
    : source_(std::move(source)),
      chunk_tokens_(chunk_tokens),
      num_ahead_(last_row == LastRow::kNextChunk ? 1 : 0),
      indptr_{0} {
  check(chunk_tokens >= 1, "data: chunks must have at least one token");
  for (std::int64_t i = 0; i < source_->size(); ++i) {
    indptr_.push_back(indptr_.back() + source_->num_tokens(i));
  }
  if (source_->size() == 0) return;
  const TrainingSequence first = source_->get(0, 0);
  check(first.targets.empty() && first.positions.empty() && first.labels.empty() &&
            first.lists.empty(),
        "data: sequences with targets, positions, labels or lists can not be cut into chunks");
}

std::int64_t ChunkedDataset::size() const {
  return std::max<std::int64_t>(0, (indptr_.back() - num_ahead_) / chunk_tokens_);
}

TrainingSequence ChunkedDataset::get(std::int64_t index, std::int64_t epoch) const {
  const std::int64_t begin = index * chunk_tokens_;
  const std::int64_t end = begin + chunk_tokens_ + num_ahead_;
  std::vector<std::int32_t> tokens;
  std::vector<float> weights;
  const auto holder = std::upper_bound(indptr_.begin(), indptr_.end(), begin) - 1;
  for (auto source = holder - indptr_.begin();
       indptr_[static_cast<std::size_t>(source)] < end && source < source_->size(); ++source) {
    const TrainingSequence part = source_->get(source, epoch);
    const std::int64_t first = indptr_[static_cast<std::size_t>(source)];
    const auto length = static_cast<std::int64_t>(part.tokens.size());
    for (std::int64_t i = std::max(begin, first) - first; i < std::min(end - first, length); ++i) {
      const auto place = static_cast<std::size_t>(i);
      tokens.push_back(part.tokens[place]);
      weights.push_back(part.weights.empty() ? 1.0F : part.weights[place]);
    }
  }
  TrainingSequence chunk;
  if (num_ahead_ == 0) {
    chunk.tokens = std::move(tokens);
    chunk.weights = std::move(weights);
    return chunk;
  }
  chunk.targets.assign(tokens.begin() + 1, tokens.end());
  chunk.weights.assign(weights.begin() + 1, weights.end());
  tokens.pop_back();
  chunk.tokens = std::move(tokens);
  return chunk;
}

}  // namespace perpend
