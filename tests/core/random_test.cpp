#include "perpend/core/random.h"

#include <gtest/gtest.h>

namespace perpend {
namespace {

// First block of Philox4x32-10 for counter 0, key 0, from the authors' known-answer file.
TEST(Random, MatchesTheKnownAnswer) {
  Random random(0);
  EXPECT_EQ(random.next_u32(), 0x6627e8d5U);
  EXPECT_EQ(random.next_u32(), 0xe169c58dU);
  EXPECT_EQ(random.next_u32(), 0xbc57ac4cU);
  EXPECT_EQ(random.next_u32(), 0x9b00dbd8U);
}

TEST(Random, FloatsStayBelowOneAndFillTheRange) {
  Random random(1, 2);
  double sum = 0;
  for (int i = 0; i < 100000; ++i) {
    const float value = random.next_float();
    ASSERT_GE(value, 0.0F);
    ASSERT_LT(value, 1.0F);
    sum += value;
  }
  EXPECT_NEAR(sum / 100000, 0.5, 0.005);
}

}  // namespace
}  // namespace perpend
