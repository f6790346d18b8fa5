#include "perpend/decode/unmask_rule.h"

#include <algorithm>
#include <cmath>

#include "perpend/core/error.h"

namespace perpend {
namespace {

std::int64_t num_above(const UnmaskRule& rule, std::span<const float> confidences) {
  const auto is_sure = [&](float confidence) {
    return rule.includes_threshold ? confidence >= rule.threshold : confidence > rule.threshold;
  };
  return std::find_if_not(confidences.begin(), confidences.end(), is_sure) - confidences.begin();
}

std::int64_t num_by_factor(float factor, std::span<const float> confidences) {
  std::int64_t count = 1;
  for (const float confidence : confidences.subspan(1)) {
    if (confidence < 1.0F - factor / static_cast<float>(count + 2)) break;
    ++count;
  }
  return count;
}

std::int64_t num_by_count(double tokens_per_step, std::int64_t step) {
  const auto due = [&](std::int64_t steps) {
    return static_cast<std::int64_t>(std::ceil(static_cast<double>(steps) * tokens_per_step));
  };
  return due(step + 1) - due(step);
}

}  // namespace

void check_rule(const UnmaskRule& rule) {
  // Written so that a NaN fails.
  check(std::isfinite(rule.threshold),
        concat("unmask: threshold must be a number (", rule.threshold, ")"));
  check(rule.factor >= 0 && std::isfinite(rule.factor),
        concat("unmask: factor must not be negative (", rule.factor, ")"));
  check(rule.tokens_per_step > 0 && rule.tokens_per_step <= 1e6,
        concat("unmask: tokens a step must be in (0, 1e6] (", rule.tokens_per_step, ")"));
  check(rule.num_steps > 0, concat("unmask: steps must be positive (", rule.num_steps, ")"));
}

std::int64_t num_accepted(const UnmaskRule& rule, std::span<const float> confidences,
                          const UnmaskState& state) {
  const auto most = static_cast<std::int64_t>(confidences.size());
  std::int64_t count = 0;
  switch (rule.kind) {
    case UnmaskRule::Kind::kThreshold:
      count = num_above(rule, confidences);
      break;
    case UnmaskRule::Kind::kFactor:
      count = num_by_factor(rule.factor, confidences);
      break;
    case UnmaskRule::Kind::kCount:
      count = num_by_count(rule.tokens_per_step, state.step);
      break;
    case UnmaskRule::Kind::kSteps: {
      const std::int64_t more = state.num_masked_at_start % rule.num_steps;
      count = state.num_masked_at_start / rule.num_steps + (state.step < more ? 1 : 0);
      break;
    }
  }
  return std::clamp<std::int64_t>(count, 1, most);
}

}  // namespace perpend
