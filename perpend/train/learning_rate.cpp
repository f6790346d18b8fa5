#include "perpend/train/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace perpend {

double LearningRate::at(std::int64_t step) const {
  if (step < warmup_steps) {
    return peak * static_cast<double>(step + 1) / static_cast<double>(warmup_steps);
  }
  if (shape == Shape::kConstant) return peak;
  const auto decay_steps =
      static_cast<double>(std::max<std::int64_t>(1, num_steps - 1 - warmup_steps));
  const double done = std::min(1.0, static_cast<double>(step - warmup_steps) / decay_steps);
  return end + (peak - end) * 0.5 * (1 + std::cos(std::numbers::pi * done));
}

}  // namespace perpend
