#pragma once

#include <cstdint>

#include "perpend/train/dataset.h"

namespace perpend {

// What an example is changed into before it is packed.
class SequenceTransform {
 public:
  struct Place {
    std::int64_t number = 0;  // of the example among all that the run reads
    std::int64_t step = 0;    // of the optimizer, from 0
  };

  virtual ~SequenceTransform() = default;

  // The same for the same arguments, always, so that a run can go on anywhere.
  virtual TrainingSequence apply(TrainingSequence sequence, const Place& place) const = 0;
};

}  // namespace perpend
