#pragma once

#include <optional>
#include <string>
#include <vector>

#include "perpend/nn/rotary.h"

namespace perpend {

// GGUF files give Llama 3.1's stretched rotary frequencies as a tensor of divisors, config.json by
// the rule's four numbers.

// [rotary_dim / 2]: frequencies without the rule over those with it; empty without a rule.
std::vector<float> llama3_divisors(const RotaryConfig& rotary);

// The rule that gives `rotary.frequency_divisors`; absent when all are one. `original_context` is
// 0 when the file does not name it. Throws Unsupported, beginning with `path`, for divisors that no
// rule of the published factors (1 and 4) gives.
std::optional<RotaryConfig::Llama3> llama3_rule(const RotaryConfig& rotary, float original_context,
                                                const std::string& path);

}  // namespace perpend
