#include <algorithm>
#include <cmath>
#include <cstring>

#include "perpend/core/half.h"
#include "perpend/formats/block_codec.h"
#include "perpend/formats/block_layouts.h"

// The formats with blocks of 32 values. Two schemes: symmetric (a scale, quants around a midpoint)
// and affine (a scale and a minimum); 4 bits in nibbles, 5 bits with the fifth apart, 8 bits in
// bytes.

namespace perpend {
namespace {

constexpr int kBlock = 32;

template <class Block>
constexpr bool kHasMin = requires(Block block) {
  block.min;
};
template <class Block>
constexpr bool kHasHighBits = requires(Block block) {
  block.high_bits;
};
template <class Block>
constexpr int kLevels = kHasHighBits<Block> ? 32 : 16;
template <class Block>
constexpr int kMiddle = kLevels<Block> / 2;

template <class Block>
std::uint32_t load_high_bits(const Block& block) {
  std::uint32_t bits = 0;
  if constexpr (kHasHighBits<Block>) std::memcpy(&bits, block.high_bits.data(), 4);
  return bits;
}

template <class Block>
void decode_nibbles(const std::byte* blocks, std::int64_t num_blocks, float* values) {
  for (std::int64_t b = 0; b < num_blocks; ++b, values += kBlock) {
    Block block;
    std::memcpy(&block, blocks + b * static_cast<std::int64_t>(sizeof(Block)), sizeof(Block));
    const float scale = f16_to_f32(block.scale);
    const std::uint32_t high_bits = load_high_bits(block);
    for (int i = 0; i < kBlock; ++i) {
      const unsigned byte = block.nibbles[static_cast<std::size_t>(i % 16)];
      const auto quant =
          static_cast<int>((i < 16 ? byte & 15U : byte >> 4) | ((high_bits >> i & 1U) << 4));
      if constexpr (kHasMin<Block>) {
        values[i] = scale * static_cast<float>(quant) + f16_to_f32(block.min);
      } else {
        values[i] = scale * static_cast<float>(quant - kMiddle<Block>);
      }
    }
  }
}

// The quants of one block: scale and min are chosen, then each value is rounded by adding a half
// and cutting. Symmetric formats add in f64 and cut in f32, as PyPI gguf does: a sum just below a
// whole number is that number.
template <class Block>
std::array<std::uint8_t, kBlock> choose_quants(const float* x, Block& block) {
  constexpr int kTop = kLevels<Block> - 1;
  std::array<std::uint8_t, kBlock> quants{};
  if constexpr (kHasMin<Block>) {
    const float low = *std::min_element(x, x + kBlock);
    const float high = *std::max_element(x, x + kBlock);
    const float scale = (high - low) / static_cast<float>(kTop);
    const float inverse = scale == 0.0F ? 0.0F : 1.0F / scale;
    block.scale = f32_to_f16(scale);
    block.min = f32_to_f16(low);
    for (std::size_t i = 0; i < kBlock; ++i) {
      const float level = std::trunc((x[i] - low) * inverse + 0.5F);
      quants[i] = static_cast<std::uint8_t>(std::clamp(level, 0.0F, static_cast<float>(kTop)));
    }
  } else {
    const float largest = *std::max_element(
        x, x + kBlock, [](float a, float b) { return std::abs(a) < std::abs(b); });
    const float scale = largest / static_cast<float>(-kMiddle<Block>);
    const float inverse = scale == 0.0F ? 0.0F : 1.0F / scale;
    block.scale = f32_to_f16(scale);
    for (std::size_t i = 0; i < kBlock; ++i) {
      const double raised =
          static_cast<double>(x[i]) * static_cast<double>(inverse) + kMiddle<Block> + 0.5;
      const float level = std::trunc(static_cast<float>(raised));
      quants[i] = static_cast<std::uint8_t>(std::clamp(level, 0.0F, static_cast<float>(kTop)));
    }
  }
  return quants;
}

template <class Block>
void encode_nibbles(const float* values, std::int64_t num_blocks, std::byte* blocks) {
  for (std::int64_t b = 0; b < num_blocks; ++b) {
    Block block{};
    const auto quants = choose_quants(values + b * kBlock, block);
    std::uint32_t high_bits = 0;
    for (std::size_t i = 0; i < kBlock; ++i) {
      const unsigned nibble = quants[i] & 15U;
      block.nibbles[i % 16] =
          static_cast<std::uint8_t>(block.nibbles[i % 16] | (i < 16 ? nibble : nibble << 4));
      high_bits |= static_cast<std::uint32_t>(quants[i] >> 4) << i;
    }
    if constexpr (kHasHighBits<Block>) std::memcpy(block.high_bits.data(), &high_bits, 4);
    std::memcpy(blocks + b * static_cast<std::int64_t>(sizeof(Block)), &block, sizeof(Block));
  }
}

}  // namespace

void decode_q4_0(const std::byte* blocks, std::int64_t num_blocks, float* values) {
  decode_nibbles<BlockQ4_0>(blocks, num_blocks, values);
}
void decode_q4_1(const std::byte* blocks, std::int64_t num_blocks, float* values) {
  decode_nibbles<BlockQ4_1>(blocks, num_blocks, values);
}
void decode_q5_0(const std::byte* blocks, std::int64_t num_blocks, float* values) {
  decode_nibbles<BlockQ5_0>(blocks, num_blocks, values);
}
void decode_q5_1(const std::byte* blocks, std::int64_t num_blocks, float* values) {
  decode_nibbles<BlockQ5_1>(blocks, num_blocks, values);
}
void decode_q8_0(const std::byte* blocks, std::int64_t num_blocks, float* values) {
  for (std::int64_t b = 0; b < num_blocks; ++b, values += kBlock) {
    BlockQ8_0 block;
    std::memcpy(&block, blocks + b * static_cast<std::int64_t>(sizeof(block)), sizeof(block));
    const float scale = f16_to_f32(block.scale);
    for (std::size_t i = 0; i < kBlock; ++i) {
      values[i] = scale * static_cast<float>(block.quants[i]);
    }
  }
}

void encode_q4_0(const float* values, std::int64_t num_blocks, std::byte* blocks) {
  encode_nibbles<BlockQ4_0>(values, num_blocks, blocks);
}
void encode_q4_1(const float* values, std::int64_t num_blocks, std::byte* blocks) {
  encode_nibbles<BlockQ4_1>(values, num_blocks, blocks);
}
void encode_q5_0(const float* values, std::int64_t num_blocks, std::byte* blocks) {
  encode_nibbles<BlockQ5_0>(values, num_blocks, blocks);
}
void encode_q5_1(const float* values, std::int64_t num_blocks, std::byte* blocks) {
  encode_nibbles<BlockQ5_1>(values, num_blocks, blocks);
}
void encode_q8_0(const float* values, std::int64_t num_blocks, std::byte* blocks) {
  for (std::int64_t b = 0; b < num_blocks; ++b, values += kBlock) {
    BlockQ8_0 block;
    float largest = 0.0F;
    for (int i = 0; i < kBlock; ++i) largest = std::max(largest, std::abs(values[i]));
    const float scale = largest / 127.0F;
    const float inverse = scale == 0.0F ? 0.0F : 1.0F / scale;
    block.scale = f32_to_f16(scale);
    for (std::size_t i = 0; i < kBlock; ++i) {
      block.quants[i] = static_cast<std::int8_t>(std::round(values[i] * inverse));
    }
    std::memcpy(blocks + b * static_cast<std::int64_t>(sizeof(block)), &block, sizeof(block));
  }
}

}  // namespace perpend
