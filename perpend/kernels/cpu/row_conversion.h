#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "perpend/core/dtype.h"

// Rows of f32, f16 and bf16 to and from the f32 that loops compute in, over a vector type; included
// by one source file for each instruction set (see few_rows_loops.h).

namespace perpend {

// Calls body(first index) for whole vectors, then tail(first index, count) for what is left.
template <class Vec, class Body, class Tail>
void for_vectors(std::int64_t count, Body body, Tail tail) {
  std::int64_t i = 0;
  for (; i + Vec::kWidth <= count; i += Vec::kWidth) body(i);
  if (i < count) tail(i, count - i);
}

// `count` < kWidth values, zeros beyond.
template <class Vec>
Vec load_partial(const float* from, std::int64_t count, float fill = 0.0F) {
  alignas(64) float lanes[Vec::kWidth];
  for (int i = 0; i < Vec::kWidth; ++i) lanes[i] = i < count ? from[i] : fill;
  return Vec::load(lanes);
}

template <class Vec>
void store_partial(Vec value, std::int64_t count, float* to) {
  alignas(64) float lanes[Vec::kWidth];
  value.store(lanes);
  std::memcpy(to, lanes, static_cast<std::size_t>(count) * sizeof(float));
}

// kWidth values as f32.
template <class Vec>
Vec load_as_f32(DType dtype, const std::byte* row, int index) {
  if (dtype == DType::kF32) return Vec::load(reinterpret_cast<const float*>(row) + index);
  const auto* half = reinterpret_cast<const std::uint16_t*>(row) + index;
  return dtype == DType::kF16 ? Vec::load_f16(half) : Vec::load_bf16(half);
}

// to[0 .. count) = row as f32; what lies beyond `count` up to a whole vector is set to zero.
template <class Vec>
void convert_row(DType dtype, const std::byte* row, int count, float* to) {
  int i = 0;
  for (; i + Vec::kWidth <= count; i += Vec::kWidth) load_as_f32<Vec>(dtype, row, i).store(to + i);
  if (i == count) return;
  alignas(64) std::byte tail[Vec::kWidth * 4] = {};
  const std::size_t bytes = dtype == DType::kF32 ? 4 : 2;
  std::memcpy(tail, row + static_cast<std::size_t>(i) * bytes,
              static_cast<std::size_t>(count - i) * bytes);
  load_as_f32<Vec>(dtype, tail, 0).store(to + i);
}

// f32 values into `to` as f32, f16 or bf16.
template <class Vec>
void store_row(DType dtype, const float* values, int count, std::byte* to) {
  if (dtype == DType::kF32) {
    std::memcpy(to, values, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  auto* half = reinterpret_cast<std::uint16_t*>(to);
  const auto convert = [&](Vec value, std::uint16_t* at) {
    dtype == DType::kF16 ? value.store_f16(at) : value.store_bf16(at);
  };
  for_vectors<Vec>(
      count, [&](std::int64_t i) { convert(Vec::load(values + i), half + i); },
      [&](std::int64_t i, std::int64_t rest) {
        std::uint16_t lanes[Vec::kWidth];
        convert(load_partial<Vec>(values + i, rest), lanes);
        std::memcpy(half + i, lanes, static_cast<std::size_t>(rest) * 2);
      });
}

// to[0 .. padded) = the `count` values of a row, then zeros. Rows of doubles are f64, others as
// above.
template <class Vec>
void load_values(DType dtype, const std::byte* row, int count, int padded,
                 typename Vec::Value* to) {
  using Value = typename Vec::Value;
  if constexpr (std::is_same_v<Value, double>) {
    std::memcpy(to, row, static_cast<std::size_t>(count) * sizeof(Value));
    std::fill(to + count, to + padded, Value{0});
  } else {
    convert_row<Vec>(dtype, row, count, to);
    const int whole = (count + Vec::kWidth - 1) / Vec::kWidth * Vec::kWidth;
    if (whole < padded) std::fill(to + whole, to + padded, Value{0});
  }
}

template <class Vec>
void store_values(DType dtype, const typename Vec::Value* values, int count, std::byte* to) {
  if constexpr (std::is_same_v<typename Vec::Value, double>) {
    std::memcpy(to, values, static_cast<std::size_t>(count) * sizeof(double));
  } else {
    store_row<Vec>(dtype, values, count, to);
  }
}

}  // namespace perpend
