#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

#include "perpend/formats/block_format.h"

namespace perpend {

// Types of metadata values, by their numbers in the file.
enum class GgufType : std::uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64,
};

struct GgufTypeInfo {
  std::string_view name;
  std::size_t bytes;  // of one value; 0 for strings and arrays
};

inline constexpr std::array<GgufTypeInfo, 13> kGgufTypes = {{{"u8", 1},
                                                             {"i8", 1},
                                                             {"u16", 2},
                                                             {"i16", 2},
                                                             {"u32", 4},
                                                             {"i32", 4},
                                                             {"f32", 4},
                                                             {"bool", 1},
                                                             {"string", 0},
                                                             {"array", 0},
                                                             {"u64", 8},
                                                             {"i64", 8},
                                                             {"f64", 8}}};

constexpr const GgufTypeInfo& info_of(GgufType type) {
  return kGgufTypes[static_cast<std::size_t>(type)];
}

// A tensor type's number in the file.
struct GgufTensorType {
  std::uint32_t number;
  BlockFormat format;
};

inline constexpr std::array<GgufTensorType, 11> kGgufTensorTypes = {{{0, BlockFormat::kF32},
                                                                     {1, BlockFormat::kF16},
                                                                     {2, BlockFormat::kQ4_0},
                                                                     {3, BlockFormat::kQ4_1},
                                                                     {6, BlockFormat::kQ5_0},
                                                                     {7, BlockFormat::kQ5_1},
                                                                     {8, BlockFormat::kQ8_0},
                                                                     {12, BlockFormat::kQ4_K},
                                                                     {13, BlockFormat::kQ5_K},
                                                                     {14, BlockFormat::kQ6_K},
                                                                     {30, BlockFormat::kBF16}}};

inline constexpr std::uint64_t kGgufMaxDims = 4;
inline constexpr std::uint32_t kGgufAlignment = 32;  // where general.alignment is not given
inline constexpr std::uint64_t kGgufMaxAlignment = 1 << 20;

constexpr bool is_gguf_alignment(std::uint64_t alignment) {
  return alignment != 0 && alignment <= kGgufMaxAlignment && (alignment & (alignment - 1)) == 0;
}

constexpr std::uint64_t gguf_padded(std::uint64_t size, std::uint64_t alignment) {
  return (size + alignment - 1) / alignment * alignment;
}

}  // namespace perpend
