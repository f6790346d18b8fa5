#include "perpend/core/half.h"

#include <cmath>

#include <gtest/gtest.h>

namespace perpend {
namespace {

TEST(Half, EveryF16SurvivesTheRoundTrip) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = f16_to_f32(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(value))));
    } else {
      EXPECT_EQ(f32_to_f16(value), half) << bits;
    }
  }
}

TEST(Half, EveryBf16SurvivesTheRoundTrip) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = bf16_to_f32(half);
    if (std::isnan(value)) continue;
    EXPECT_EQ(f32_to_bf16(value), half) << bits;
  }
}

TEST(Half, RoundsToNearestEvenBetweenNeighbours) {
  for (std::uint16_t half = 0; half < 0x7bff; ++half) {
    const double low = f16_to_f32(half);
    const double high = f16_to_f32(static_cast<std::uint16_t>(half + 1));
    const auto middle = static_cast<float>((low + high) / 2);
    EXPECT_EQ(f32_to_f16(middle), half % 2 == 0 ? half : half + 1) << half;
    EXPECT_EQ(f32_to_f16(std::nextafter(middle, 1e9F)), half + 1) << half;
    EXPECT_EQ(f32_to_f16(std::nextafter(middle, -1.0F)), half) << half;
  }
}

TEST(Half, OverflowIsInfinity) {
  EXPECT_EQ(f32_to_f16(65520.0F), 0x7c00);
  EXPECT_EQ(f32_to_f16(65519.0F), 0x7bff);
  EXPECT_EQ(f32_to_f16(-1e30F), 0xfc00);
}

}  // namespace
}  // namespace perpend
