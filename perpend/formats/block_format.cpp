#include "perpend/formats/block_format.h"

#include <array>

#include "perpend/core/error.h"
#include "perpend/formats/block_codec.h"

namespace perpend {
namespace {

struct FormatEntry {
  BlockFormatInfo info;
  DecodeBlocks decode;
  EncodeBlocks encode;  // null where there is none
};

// In the order of the enumerators.
constexpr std::array<FormatEntry, 11> kFormats = {{
    {{"f32", 1, 4, true}, decode_f32, encode_f32},
    {{"f16", 1, 2, true}, decode_f16, encode_f16},
    {{"bf16", 1, 2, true}, decode_bf16, encode_bf16},
    {{"q4_0", 32, 18, true}, decode_q4_0, encode_q4_0},
    {{"q4_1", 32, 20, true}, decode_q4_1, encode_q4_1},
    {{"q5_0", 32, 22, true}, decode_q5_0, encode_q5_0},
    {{"q5_1", 32, 24, true}, decode_q5_1, encode_q5_1},
    {{"q8_0", 32, 34, true}, decode_q8_0, encode_q8_0},
    {{"q4_k", 256, 144, false}, decode_q4_k, nullptr},
    {{"q5_k", 256, 176, false}, decode_q5_k, nullptr},
    {{"q6_k", 256, 210, false}, decode_q6_k, nullptr},
}};

const FormatEntry& entry_of(BlockFormat format) {
  return kFormats[static_cast<std::size_t>(format)];
}

}  // namespace

const BlockFormatInfo& info_of(BlockFormat format) { return entry_of(format).info; }

std::ostream& operator<<(std::ostream& out, BlockFormat format) { return out << name_of(format); }

BlockFormat parse_block_format(std::string_view name) {
  std::string known;
  for (std::size_t i = 0; i < kFormats.size(); ++i) {
    if (kFormats[i].info.name == name) return static_cast<BlockFormat>(i);
    known += concat(i ? ", " : "", kFormats[i].info.name);
  }
  throw InvalidArgument(concat("format: expected one of ", known, " (", name, ")"));
}

std::size_t row_bytes(BlockFormat format, std::int64_t num_values) {
  const BlockFormatInfo& info = info_of(format);
  if (num_values < 0 || num_values % info.block_size != 0) {
    throw InvalidArgument(concat("format ", info.name, ": a row must be a multiple of ",
                                 info.block_size, " values (", num_values, ")"));
  }
  return static_cast<std::size_t>(num_values / info.block_size) *
         static_cast<std::size_t>(info.block_bytes);
}

void dequantize_row(BlockFormat format, std::span<const std::byte> blocks,
                    std::span<float> values) {
  const auto count = static_cast<std::int64_t>(values.size());
  check_eq(blocks.size(), row_bytes(format, count),
           "dequantize: bytes of blocks and values differ");
  entry_of(format).decode(blocks.data(), count / info_of(format).block_size, values.data());
}

void quantize_row(BlockFormat format, std::span<const float> values, std::span<std::byte> blocks) {
  const EncodeBlocks encode = entry_of(format).encode;
  if (encode == nullptr) {
    throw Unsupported(concat("format ", name_of(format),
                             " can be read but not written; q8_0, q5_1, q4_1 and bf16 can be"));
  }
  const auto count = static_cast<std::int64_t>(values.size());
  check_eq(blocks.size(), row_bytes(format, count), "quantize: bytes of blocks and values differ");
  encode(values.data(), count / info_of(format).block_size, blocks.data());
}

}  // namespace perpend
