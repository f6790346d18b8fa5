#include "perpend/formats/block_format.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/core/random.h"

namespace perpend {
namespace {

constexpr BlockFormat kWritable[] = {BlockFormat::kF32,  BlockFormat::kF16,  BlockFormat::kBF16,
                                     BlockFormat::kQ4_0, BlockFormat::kQ4_1, BlockFormat::kQ5_0,
                                     BlockFormat::kQ5_1, BlockFormat::kQ8_0};

std::vector<float> round_trip(BlockFormat format, const std::vector<float>& values) {
  std::vector<std::byte> blocks(row_bytes(format, static_cast<std::int64_t>(values.size())));
  quantize_row(format, values, blocks);
  std::vector<float> back(values.size());
  dequantize_row(format, blocks, back);
  return back;
}

// Largest relative error of a block of values in [-1, 1]: half a step, and for 4 and 5 bits the far
// end of the symmetric range, which lies one step out of reach.
float error_bound(BlockFormat format) {
  switch (format) {
    case BlockFormat::kF32:
      return 0.0F;
    case BlockFormat::kF16:
      return 0.0005F;
    case BlockFormat::kBF16:
      return 0.004F;
    case BlockFormat::kQ8_0:
      return 0.0045F;
    case BlockFormat::kQ5_0:
      return 0.066F;
    case BlockFormat::kQ5_1:
      return 0.035F;
    case BlockFormat::kQ4_1:
      return 0.07F;
    default:
      return 0.13F;
  }
}

TEST(BlockFormat, NamesAreParsedBack) {
  for (int i = 0; i <= static_cast<int>(BlockFormat::kQ6_K); ++i) {
    const auto format = static_cast<BlockFormat>(i);
    EXPECT_EQ(parse_block_format(name_of(format)), format);
  }
  EXPECT_THROW(parse_block_format("q9_9"), InvalidArgument);
}

TEST(BlockFormat, ErrorsStayWithinHalfAStep) {
  Random random(1);
  for (BlockFormat format : kWritable) {
    std::vector<float> values(32 * 50);
    for (float& value : values) value = 2 * random.next_float() - 1;
    const auto back = round_trip(format, values);
    for (std::size_t i = 0; i < values.size(); ++i) {
      EXPECT_LE(std::abs(back[i] - values[i]), error_bound(format)) << name_of(format);
    }
  }
}

TEST(BlockFormat, WholeNumbersAndZeroAreExact) {
  std::vector<float> zeros(64, 0.0F);
  for (BlockFormat format : kWritable) EXPECT_EQ(round_trip(format, zeros), zeros);
  std::vector<float> steps(32);
  for (std::size_t i = 0; i < 32; ++i) steps[i] = static_cast<float>(i % 16) - 8;
  EXPECT_EQ(round_trip(BlockFormat::kQ4_0, steps), steps);
}

TEST(BlockFormat, WrongSizesAreRefused) {
  std::vector<float> values(33);
  std::vector<std::byte> blocks(18);
  EXPECT_THROW(row_bytes(BlockFormat::kQ4_0, 33), InvalidArgument);
  EXPECT_THROW(row_bytes(BlockFormat::kQ4_0, -32), InvalidArgument);
  EXPECT_THROW(dequantize_row(BlockFormat::kQ4_0, blocks, values), InvalidArgument);
  values.resize(64);
  EXPECT_THROW(quantize_row(BlockFormat::kQ4_0, values, blocks), InvalidArgument);
  values.resize(256);
  EXPECT_THROW(quantize_row(BlockFormat::kQ6_K, values, blocks), Unsupported);
}

}  // namespace
}  // namespace perpend
