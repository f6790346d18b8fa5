#pragma once

#include <memory>

#include "perpend/train/dataset.h"

namespace perpend {

struct Padding {
  std::int64_t multiple = 1;  // sequences end where a block of so many tokens does
  std::int64_t length = 0;    // and have at least so many
  std::int32_t token = 0;
  float weight = 0.0F;  // how much predicting it counts
};

// The sequences of another dataset with tokens appended: mask tokens up to the end of a block, so
// that no block holds parts of two texts (Fast-dLLM v2, section 2.1), or ends of text that are
// learnt up to the length of a canvas (LLaDA).
class PaddedDataset final : public Dataset {
 public:
  // Throws InvalidArgument for a multiple below 1.
  PaddedDataset(std::shared_ptr<const Dataset> source, const Padding& padding);

  std::int64_t size() const override { return source_->size(); }
  std::int64_t num_tokens(std::int64_t index) const override;
  // Throws InvalidArgument for a sequence with targets, positions, labels or lists.
  TrainingSequence get(std::int64_t index, std::int64_t epoch) const override;

 private:
  std::shared_ptr<const Dataset> source_;
  Padding padding_;
};

}  // namespace perpend
