#include "perpend/decode/unmask_rule.h"

#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "perpend/core/error.h"

namespace perpend {
namespace {

using Kind = UnmaskRule::Kind;
using Confidences = std::vector<float>;

TEST(UnmaskRule, AThresholdIsStrictUnlessItSaysOtherwise) {
  UnmaskRule rule{.kind = Kind::kThreshold, .threshold = 0.5F};
  EXPECT_EQ(num_accepted(rule, Confidences{0.9F, 0.5F, 0.4F}, {}), 1);
  EXPECT_EQ(num_accepted(rule, Confidences{0.4F, 0.3F}, {}), 1);
  rule.includes_threshold = true;
  EXPECT_EQ(num_accepted(rule, Confidences{0.9F, 0.5F, 0.4F}, {}), 2);
  EXPECT_EQ(num_accepted(rule, Confidences{0.9F, 0.9F, 0.8F}, {}), 3);
}

// The largest n of which every m <= n has c_m >= 1 - f / (m + 1); the first always counts.
TEST(UnmaskRule, AFactorIsThatOfThePaper) {
  const std::vector<Confidences> rows = {{0.1F},
                                         {0.9F, 0.9F, 0.9F, 0.9F},
                                         {0.99F, 0.8F, 0.7F, 0.7F},
                                         {0.6F, 0.6F, 0.9F},
                                         {1.0F, 1.0F, 0.2F, 0.2F}};
  for (const float factor : {0.0F, 0.3F, 0.8F, 1.0F, 2.0F}) {
    for (const Confidences& row : rows) {
      std::int64_t expected = 1;
      for (std::size_t n = 1; n <= row.size(); ++n) {
        bool all = true;
        for (std::size_t m = 2; m <= n; ++m) {
          all = all && row[m - 1] >= 1.0F - factor / static_cast<float>(m + 1);
        }
        if (all) expected = static_cast<std::int64_t>(n);
      }
      EXPECT_EQ(num_accepted({.kind = Kind::kFactor, .factor = factor}, row, {}), expected);
    }
  }
}

TEST(UnmaskRule, AFractionOfTokensComesOutOverTheSteps) {
  const UnmaskRule rule{.kind = Kind::kCount, .tokens_per_step = 2.5};
  const Confidences row(10, 0.5F);
  std::vector<std::int64_t> counts;
  for (std::int64_t step = 0; step < 4; ++step) {
    counts.push_back(num_accepted(rule, row, {.num_masked_at_start = 10, .step = step}));
  }
  EXPECT_EQ(counts, (std::vector<std::int64_t>{3, 2, 3, 2}));
  // Never more than there are, never none.
  EXPECT_EQ(num_accepted(rule, Confidences{0.5F}, {10, 0}), 1);
  EXPECT_EQ(num_accepted({.kind = Kind::kCount, .tokens_per_step = 0.1}, row, {10, 1}), 1);
}

// LLaDA: floor(masked / steps), the first (masked mod steps) steps one more.
TEST(UnmaskRule, StepsShareTheTokens) {
  for (std::int64_t masked = 1; masked <= 12; ++masked) {
    for (std::int64_t steps = 1; steps <= masked; ++steps) {
      const UnmaskRule rule{.kind = Kind::kSteps, .num_steps = steps};
      std::int64_t left = masked;
      for (std::int64_t step = 0; step < steps; ++step) {
        const std::int64_t count =
            num_accepted(rule, Confidences(static_cast<std::size_t>(left), 0.5F), {masked, step});
        EXPECT_EQ(count, masked / steps + (step < masked % steps ? 1 : 0));
        left -= count;
      }
      EXPECT_EQ(left, 0);
    }
  }
}

TEST(UnmaskRule, NumbersOutOfRangeAreRefused) {
  EXPECT_THROW(check_rule({.factor = -1}), InvalidArgument);
  EXPECT_THROW(check_rule({.tokens_per_step = 0}), InvalidArgument);
  EXPECT_THROW(check_rule({.num_steps = 0}), InvalidArgument);
}

}  // namespace
}  // namespace perpend
