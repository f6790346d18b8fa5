#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

namespace perpend {

// How often to try a property: `count` times; twenty times as often in a long campaign
// (PERPEND_LONG, set by ./test --long), a tenth as often in a short one (PERPEND_SHORT, set where
// sanitizers make every trial slow). tests/campaign.py says the same to the oracle tests.
inline int num_trials(int count) {
  if (std::getenv("PERPEND_LONG") != nullptr) count *= 20;
  if (std::getenv("PERPEND_SHORT") != nullptr) count = std::max(1, count / 10);
  return count;
}

// The whole number in an environment variable, or `otherwise`.
inline std::uint64_t campaign_number(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr || *text == '\0' ? otherwise : std::stoull(text);
}

}  // namespace perpend
