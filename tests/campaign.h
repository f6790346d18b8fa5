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

// The random cases of a test: PERPEND_CAMPAIGN_SEED chooses them, PERPEND_CAMPAIGN_CASES their
// number, which is `otherwise` without it; PERPEND_CAMPAIGN_CASE runs one alone.
struct Campaign {
  explicit Campaign(std::uint64_t otherwise)
      : seed(campaign_number("PERPEND_CAMPAIGN_SEED", 1)),
        first(campaign_number("PERPEND_CAMPAIGN_CASE", 0)),
        count(std::getenv("PERPEND_CAMPAIGN_CASE") != nullptr
                  ? 1
                  : campaign_number("PERPEND_CAMPAIGN_CASES", otherwise)) {}

  // How a failure names its case, so that it can be run alone.
  std::string name(std::uint64_t index) const {
    return "PERPEND_CAMPAIGN_SEED=" + std::to_string(seed) +
           " PERPEND_CAMPAIGN_CASE=" + std::to_string(index);
  }

  std::uint64_t seed;
  std::uint64_t first;
  std::uint64_t count;
};

}  // namespace perpend
