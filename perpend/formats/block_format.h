#pragma once

#include <cstddef>
#include <cstdint>
#include <ostream>
#include <span>
#include <string_view>

namespace perpend {

// Storage formats of weights. A format cuts a row into blocks of block_size values, each stored in
// block_bytes bytes; the plain float formats are blocks of one value. Layouts are those of GGUF.
enum class BlockFormat : std::uint8_t {
  kF32,
  kF16,
  kBF16,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ4_K,
  kQ5_K,
  kQ6_K,
};

struct BlockFormatInfo {
  std::string_view name;  // "q4_1", as on the command line
  int block_size;         // values a block
  int block_bytes;        // bytes a block
  bool can_quantize;      // whether quantize_row is defined for it
};

const BlockFormatInfo& info_of(BlockFormat format);
inline std::string_view name_of(BlockFormat format) { return info_of(format).name; }
std::ostream& operator<<(std::ostream& out, BlockFormat format);

// Throws InvalidArgument listing the known names.
BlockFormat parse_block_format(std::string_view name);

// Bytes of a row of `num_values`. Throws InvalidArgument unless it is a whole number of blocks.
std::size_t row_bytes(BlockFormat format, std::int64_t num_values);

// Exactly what the format defines, bit for bit as the reference (PyPI gguf) computes it in f32.
// Throws InvalidArgument when blocks.size() differs from row_bytes(format, values.size()).
void dequantize_row(BlockFormat format, std::span<const std::byte> blocks, std::span<float> values);

// The inverse: the nearest representable values by the reference's rule (round half away from zero,
// scale from the value of largest magnitude). Throws Unsupported when !can_quantize.
void quantize_row(BlockFormat format, std::span<const float> values, std::span<std::byte> blocks);

}  // namespace perpend
