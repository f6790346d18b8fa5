#pragma once

#include <cstdint>
#include <span>

namespace perpend {

// How many masked tokens of a sub-block a step makes final, the most confident first, always one at
// least.
struct UnmaskRule {
  enum class Kind {
    kThreshold,  // those above a threshold (Fast-dLLM v2, section 2.5)
    kFactor,     // n while the n-th has a confidence of at least 1 - factor / (n + 1) (v1, 5.1)
    kCount,      // a number of tokens, which may be a fraction: 2.5 means 3, 2, 3, 2, ...
    kSteps,  // as many as end the sub-block in a number of steps, the first ones one more (LLaDA)
  };

  Kind kind = Kind::kThreshold;
  float threshold = 0.9F;
  bool includes_threshold = false;  // whether the threshold itself is enough, as in v1
  float factor = 1.0F;
  double tokens_per_step = 1.0;
  std::int64_t num_steps = 1;
};

// Throws InvalidArgument that names the option, its range and the value.
void check_rule(const UnmaskRule& rule);

// Where the sub-block stands: `step` counts its steps from 0.
struct UnmaskState {
  std::int64_t num_masked_at_start = 0;
  std::int64_t step = 0;
};

// `confidences` of the masked tokens, descending, not empty.
std::int64_t num_accepted(const UnmaskRule& rule, std::span<const float> confidences,
                          const UnmaskState& state);

}  // namespace perpend
