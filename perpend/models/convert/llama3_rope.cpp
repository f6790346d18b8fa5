#include "perpend/models/convert/llama3_rope.h"

#include <algorithm>
#include <cmath>

#include "perpend/core/error.h"

namespace perpend {
namespace {

constexpr float kTolerance = 1e-5F;

bool is_close(float a, float b) { return std::abs(a - b) <= kTolerance * std::abs(b); }

}  // namespace

std::vector<float> llama3_divisors(const RotaryConfig& rotary) {
  if (!rotary.llama3) return {};
  RotaryConfig plain = rotary;
  plain.llama3.reset();
  std::vector<float> divisors = rotary_frequencies(plain);
  const std::vector<float> stretched = rotary_frequencies(rotary);
  std::transform(divisors.begin(), divisors.end(), stretched.begin(), divisors.begin(),
                 std::divides<>());
  return divisors;
}

std::optional<RotaryConfig::Llama3> llama3_rule(const RotaryConfig& rotary, float original_context,
                                                const std::string& path) {
  const std::vector<float>& divisors = rotary.frequency_divisors;
  if (std::all_of(divisors.begin(), divisors.end(), [](float d) { return d == 1; })) {
    return std::nullopt;
  }
  RotaryConfig::Llama3 rule;
  // Rounding has touched the quotients; published factors have few digits.
  rule.factor = std::round(*std::max_element(divisors.begin(), divisors.end()) * 1000) / 1000;
  if (original_context > 0) rule.original_context = original_context;
  RotaryConfig candidate = rotary;
  candidate.frequency_divisors.clear();
  candidate.llama3 = rule;
  const std::vector<float> expected = llama3_divisors(candidate);
  if (!std::equal(divisors.begin(), divisors.end(), expected.begin(), expected.end(), is_close)) {
    throw Unsupported(concat(path,
                             ": rope_freqs.weight: its divisors follow no rule that config.json "
                             "can name; GGUF can keep them"));
  }
  return rule;
}

}  // namespace perpend
