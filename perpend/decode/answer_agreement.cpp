#include "perpend/decode/answer_agreement.h"

#include <algorithm>
#include <vector>

namespace perpend {
namespace {

bool same_fill(const RecordedStep& a, const RecordedStep& b) {
  const auto same = [](const FilledToken& x, const FilledToken& y) {
    return x.position == y.position && x.chosen.token == y.chosen.token;
  };
  return std::ranges::equal(a.filled, b.filled, same);
}

// Caches differ in the passes that fill nothing.
std::vector<const RecordedStep*> filling(std::span<const RecordedStep> steps) {
  std::vector<const RecordedStep*> result;
  for (const RecordedStep& step : steps) {
    if (!step.filled.empty()) result.push_back(&step);
  }
  return result;
}

// The first index at which two ranges differ, their ends too.
template <class Range, class Same>
std::optional<std::int64_t> first_difference(const Range& a, const Range& b, Same same) {
  const auto [x, y] = std::ranges::mismatch(a, b, same);
  if (x == a.end() && y == b.end()) return std::nullopt;
  return x - a.begin();
}

}  // namespace

AnswerAgreement agreement_of(std::span<const Sample> a, std::span<const Sample> b) {
  const auto same = [](const Sample& x, const Sample& y) {
    return x.chosen.token == y.chosen.token;
  };
  AnswerAgreement agreement;
  agreement.num_tokens = static_cast<std::int64_t>(std::max(a.size(), b.size()));
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    agreement.num_equal += same(a[i], b[i]) ? 1 : 0;
  }
  agreement.first_token = first_difference(a, b, same);
  return agreement;
}

AnswerAgreement agreement_of(std::span<const Sample> a, std::span<const RecordedStep> a_steps,
                             std::span<const Sample> b, std::span<const RecordedStep> b_steps) {
  AnswerAgreement agreement = agreement_of(a, b);
  agreement.first_step = first_difference(
      filling(a_steps), filling(b_steps),
      [](const RecordedStep* x, const RecordedStep* y) { return same_fill(*x, *y); });
  return agreement;
}

}  // namespace perpend
