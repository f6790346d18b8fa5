#pragma once

#include <string>
#include <vector>

#include "perpend/mask/mask.h"
#include "perpend/models/differentiable_model.h"
#include "perpend/train/packed_batch.h"

namespace perpend {

// The masks of a model's layers for one batch after another: names in them stand for the labels
// that the sequences bring, unless those bring masks of their own.
class MaskBinder {
 public:
  explicit MaskBinder(std::vector<Mask> layer_masks);  // [num_layers]

  // [num_layers]; layers of one mask share theirs. Throws InvalidArgument naming a label that the
  // batch does not have.
  std::vector<BatchMasks> bind(const PackedBatch& batch) const;

 private:
  struct Kind {
    Mask mask;
    std::vector<std::string> names;  // without a label
  };
  std::vector<Kind> kinds_;
  std::vector<std::size_t> kind_of_layer_;
};

}  // namespace perpend
