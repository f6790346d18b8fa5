#pragma once

#include <array>
#include <cstdint>

namespace perpend {

// The blocks of GGUF's quantised formats as they lie in a file, little endian. `scale` and the like
// are f16 bits. In the 4- and 5-bit formats a byte holds value i in its low and value i + 16 in its
// high nibble.

struct BlockQ4_0 {
  std::uint16_t scale;
  std::array<std::uint8_t, 16> nibbles;  // value = scale * (nibble - 8)
};

struct BlockQ4_1 {
  std::uint16_t scale;
  std::uint16_t min;
  std::array<std::uint8_t, 16> nibbles;  // value = scale * nibble + min
};

struct BlockQ5_0 {
  std::uint16_t scale;
  std::array<std::uint8_t, 4> high_bits;  // bit i: fifth bit of value i
  std::array<std::uint8_t, 16> nibbles;   // value = scale * (quant - 16)
};

struct BlockQ5_1 {
  std::uint16_t scale;
  std::uint16_t min;
  std::array<std::uint8_t, 4> high_bits;
  std::array<std::uint8_t, 16> nibbles;  // value = scale * quant + min
};

struct BlockQ8_0 {
  std::uint16_t scale;
  std::array<std::int8_t, 32> quants;  // value = scale * quant
};

// Super-blocks of 256 values: eight groups of 32, each with a 6-bit scale and min of its own.
struct BlockQ4_K {
  std::uint16_t scale;
  std::uint16_t min_scale;
  std::array<std::uint8_t, 12> group_scales;
  std::array<std::uint8_t, 128> nibbles;
};

struct BlockQ5_K {
  std::uint16_t scale;
  std::uint16_t min_scale;
  std::array<std::uint8_t, 12> group_scales;
  std::array<std::uint8_t, 32> high_bits;  // bit g of byte i: fifth bit of value i of group g
  std::array<std::uint8_t, 128> nibbles;
};

// Sixteen groups of 16 values, each with an 8-bit scale.
struct BlockQ6_K {
  std::array<std::uint8_t, 128> low_nibbles;
  std::array<std::uint8_t, 64> high_pairs;
  std::array<std::int8_t, 16> group_scales;
  std::uint16_t scale;
};

static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20 && sizeof(BlockQ5_0) == 22 &&
              sizeof(BlockQ5_1) == 24 && sizeof(BlockQ8_0) == 34 && sizeof(BlockQ4_K) == 144 &&
              sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210);

}  // namespace perpend
