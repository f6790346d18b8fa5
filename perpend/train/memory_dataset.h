#pragma once

#include <utility>
#include <vector>

#include "perpend/train/dataset.h"

namespace perpend {

// Examples that are kept in memory.
class MemoryDataset final : public Dataset {
 public:
  explicit MemoryDataset(std::vector<TrainingSequence> sequences)
      : sequences_(std::move(sequences)) {}

  std::int64_t size() const override { return static_cast<std::int64_t>(sequences_.size()); }
  std::int64_t num_tokens(std::int64_t index) const override {
    return static_cast<std::int64_t>(sequences_[static_cast<std::size_t>(index)].tokens.size());
  }
  TrainingSequence get(std::int64_t index, std::int64_t /*epoch*/) const override {
    return sequences_[static_cast<std::size_t>(index)];
  }

 private:
  std::vector<TrainingSequence> sequences_;
};

}  // namespace perpend
