#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "perpend/core/half.h"

namespace perpend::scalar {

// The vector interface of attention_loops.h and row_loops.h in plain C++: four floats.
struct Vec {
  static constexpr int kWidth = 4;
  static constexpr int kKeys = 4;     // key rows that the matrix loops hold at once
  static constexpr int kRowVecs = 2;  // vectors of a row that stay in registers with few rows

  float lane[kWidth];

  static Vec set1(float x) { return {{x, x, x, x}}; }
  static Vec zero() { return set1(0.0F); }
  static Vec load(const float* from) { return {{from[0], from[1], from[2], from[3]}}; }
  static Vec load_f16(const std::uint16_t* from) {
    Vec v;
    for (int i = 0; i < kWidth; ++i) v.lane[i] = f16_to_f32(from[i]);
    return v;
  }
  static Vec load_bf16(const std::uint16_t* from) {
    Vec v;
    for (int i = 0; i < kWidth; ++i) v.lane[i] = bf16_to_f32(from[i]);
    return v;
  }
  void store(float* to) const { std::copy_n(lane, kWidth, to); }
  void store_f16(std::uint16_t* to) const {
    for (int i = 0; i < kWidth; ++i) to[i] = f32_to_f16(lane[i]);
  }
  void store_bf16(std::uint16_t* to) const {
    for (int i = 0; i < kWidth; ++i) to[i] = f32_to_bf16(lane[i]);
  }

  template <class F>
  static Vec map(Vec a, Vec b, F f) {
    Vec v;
    for (int i = 0; i < kWidth; ++i) v.lane[i] = f(a.lane[i], b.lane[i]);
    return v;
  }
  friend Vec operator+(Vec a, Vec b) {
    return map(a, b, [](float x, float y) { return x + y; });
  }
  friend Vec operator-(Vec a, Vec b) {
    return map(a, b, [](float x, float y) { return x - y; });
  }
  friend Vec operator*(Vec a, Vec b) {
    return map(a, b, [](float x, float y) { return x * y; });
  }
  friend Vec operator/(Vec a, Vec b) {
    return map(a, b, [](float x, float y) { return x / y; });
  }
  static Vec max(Vec a, Vec b) {
    return map(a, b, [](float x, float y) { return x > y ? x : y; });
  }
  static Vec fma(Vec a, Vec b, Vec c) {
    Vec v;
    for (int i = 0; i < kWidth; ++i) v.lane[i] = a.lane[i] * b.lane[i] + c.lane[i];
    return v;
  }
  // Lane i of a where bit i is set, else of b.
  static Vec select(std::uint32_t bits, Vec a, Vec b) {
    for (int i = 0; i < kWidth; ++i) {
      if ((bits >> i & 1U) == 0) a.lane[i] = b.lane[i];
    }
    return a;
  }
  // Nearest whole number, and 2^n for whole n in [-127, 127] (0 for -127).
  static Vec round(Vec a) {
    return map(a, a, [](float x, float) { return std::nearbyint(x); });
  }
  static Vec power_of_two(Vec n) {
    return map(n, n, [](float x, float) {
      return std::bit_cast<float>(static_cast<std::uint32_t>(static_cast<int>(x) + 127) << 23);
    });
  }
  static float sum(Vec a) { return (a.lane[0] + a.lane[1]) + (a.lane[2] + a.lane[3]); }
  // to[i] = sum of the lanes of a[i], for four vectors.
  static void store_sums(const Vec* a, float* to) {
    for (int i = 0; i < 4; ++i) to[i] = sum(a[i]);
  }
  static float largest(Vec a) {
    return std::max(std::max(a.lane[0], a.lane[1]), std::max(a.lane[2], a.lane[3]));
  }
};

}  // namespace perpend::scalar
