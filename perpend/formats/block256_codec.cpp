#include <cstring>

#include "perpend/core/half.h"
#include "perpend/formats/block_codec.h"
#include "perpend/formats/block_layouts.h"

// The formats with super-blocks of 256 values ("K" in GGUF).

namespace perpend {
namespace {

constexpr int kSuperBlock = 256;

struct ScaleMin {
  float scale;
  float min;
};

// Scale and min of group g: 6 bits each, packed into 12 bytes; the upper four groups keep their top
// two bits in the top bits of the lower four.
template <class Block>
ScaleMin group_scale_min(const Block& block, unsigned g) {
  const auto& packed = block.group_scales;
  unsigned scale = 0;
  unsigned min = 0;
  if (g < 4) {
    scale = packed[g] & 63U;
    min = packed[g + 4] & 63U;
  } else {
    scale = (packed[g + 4] & 15U) | static_cast<unsigned>(packed[g - 4] >> 6) << 4;
    min = static_cast<unsigned>(packed[g + 4] >> 4) | static_cast<unsigned>(packed[g] >> 6) << 4;
  }
  return {f16_to_f32(block.scale) * static_cast<float>(scale),
          f16_to_f32(block.min_scale) * static_cast<float>(min)};
}

template <class Block>
void decode_groups(const std::byte* blocks, std::int64_t num_blocks, float* values) {
  for (std::int64_t b = 0; b < num_blocks; ++b) {
    Block block;
    std::memcpy(&block, blocks + b * static_cast<std::int64_t>(sizeof(Block)), sizeof(Block));
    for (unsigned g = 0; g < 8; ++g) {
      const ScaleMin group = group_scale_min(block, g);
      for (unsigned i = 0; i < 32; ++i) {
        // Groups come in pairs: the low nibbles of 32 bytes are one, the high nibbles the next.
        const unsigned byte = block.nibbles[g / 2 * 32 + i];
        unsigned quant = g % 2 == 0 ? byte & 15U : byte >> 4;
        if constexpr (requires { block.high_bits; }) {
          quant |= (block.high_bits[i] >> g & 1U) << 4;
        }
        *values++ = group.scale * static_cast<float>(quant) - group.min;
      }
    }
  }
}

}  // namespace

void decode_q4_k(const std::byte* blocks, std::int64_t num_blocks, float* values) {
  decode_groups<BlockQ4_K>(blocks, num_blocks, values);
}
void decode_q5_k(const std::byte* blocks, std::int64_t num_blocks, float* values) {
  decode_groups<BlockQ5_K>(blocks, num_blocks, values);
}

void decode_q6_k(const std::byte* blocks, std::int64_t num_blocks, float* values) {
  for (std::int64_t b = 0; b < num_blocks; ++b) {
    BlockQ6_K block;
    std::memcpy(&block, blocks + b * static_cast<std::int64_t>(sizeof(block)), sizeof(block));
    const float scale = f16_to_f32(block.scale);
    for (unsigned i = 0; i < kSuperBlock; ++i) {
      // Each half of 128 values: quarters of 32 share their bytes by nibble and by pair of bits.
      const unsigned half = i / 128;
      const unsigned quarter = i / 32 % 4;
      const unsigned column = i % 32;
      const unsigned low = block.low_nibbles[half * 64 + quarter % 2 * 32 + column];
      const unsigned high = block.high_pairs[half * 32 + column];
      const unsigned quant = (quarter < 2 ? low & 15U : low >> 4) | (high >> 2 * quarter & 3U) << 4;
      const float group = scale * static_cast<float>(block.group_scales[i / 16]);
      *values++ = group * static_cast<float>(static_cast<int>(quant) - 32);
    }
  }
}

}  // namespace perpend
