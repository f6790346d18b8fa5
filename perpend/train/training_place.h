#pragma once

#include <cstdint>

namespace perpend {

// How far a run has come: with the optimizer's tensors all that it needs to go on.
struct TrainingPlace {
  std::int64_t num_steps = 0;
  std::int64_t num_read = 0;  // examples
  std::int64_t num_tokens = 0;
};

}  // namespace perpend
