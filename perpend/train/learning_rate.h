#pragma once

#include <cstdint>

namespace perpend {

// Learning rate by step: a linear warm-up, then constant or half a cosine (arXiv:1608.03983).
struct LearningRate {
  enum class Shape { kConstant, kCosine };

  double peak = 0.0;
  double end = 0.0;  // of the cosine, at the last step
  std::int64_t warmup_steps = 0;
  std::int64_t num_steps = 0;
  Shape shape = Shape::kConstant;

  // Of step 0, 1, ..., num_steps - 1. The first step of a warm-up has peak / warmup_steps, the
  // step after it the peak.
  double at(std::int64_t step) const;
};

}  // namespace perpend
