#include <cstring>

#include "perpend/core/half.h"
#include "perpend/formats/block_codec.h"

namespace perpend {
namespace {

template <class Convert>
void decode_halves(const std::byte* blocks, std::int64_t count, float* values, Convert convert) {
  for (std::int64_t i = 0; i < count; ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, blocks + 2 * i, 2);
    values[i] = convert(bits);
  }
}

template <class Convert>
void encode_halves(const float* values, std::int64_t count, std::byte* blocks, Convert convert) {
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint16_t bits = convert(values[i]);
    std::memcpy(blocks + 2 * i, &bits, 2);
  }
}

}  // namespace

void decode_f32(const std::byte* blocks, std::int64_t num_blocks, float* values) {
  if (num_blocks > 0) std::memcpy(values, blocks, static_cast<std::size_t>(num_blocks) * 4);
}
void decode_f16(const std::byte* blocks, std::int64_t num_blocks, float* values) {
  decode_halves(blocks, num_blocks, values, f16_to_f32);
}
void decode_bf16(const std::byte* blocks, std::int64_t num_blocks, float* values) {
  decode_halves(blocks, num_blocks, values, bf16_to_f32);
}

void encode_f32(const float* values, std::int64_t num_blocks, std::byte* blocks) {
  if (num_blocks > 0) std::memcpy(blocks, values, static_cast<std::size_t>(num_blocks) * 4);
}
void encode_f16(const float* values, std::int64_t num_blocks, std::byte* blocks) {
  encode_halves(values, num_blocks, blocks, f32_to_f16);
}
void encode_bf16(const float* values, std::int64_t num_blocks, std::byte* blocks) {
  encode_halves(values, num_blocks, blocks, f32_to_bf16);
}

}  // namespace perpend
