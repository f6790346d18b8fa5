#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

#include "perpend/core/half.h"

namespace perpend::scalar {

// The vector interface of the loops in this folder in plain C++: four floats or four doubles.
template <class T>
struct Lanes {
  using Value = T;
  static constexpr int kWidth = 4;
  static constexpr int kBlockRows = 4;  // rows that the products hold in registers at once,
  static constexpr int kBlockVecs = 2;  // and vectors of each
  static constexpr int kRowVecs = 2;    // vectors of a row that stay in registers with few rows

  T lane[kWidth];

  static Lanes set1(T x) { return {{x, x, x, x}}; }
  static Lanes zero() { return set1(0); }
  static Lanes load(const T* from) { return {{from[0], from[1], from[2], from[3]}}; }
  static Lanes load_f16(const std::uint16_t* from) {
    Lanes v;
    for (int i = 0; i < kWidth; ++i) v.lane[i] = f16_to_f32(from[i]);
    return v;
  }
  static Lanes load_bf16(const std::uint16_t* from) {
    Lanes v;
    for (int i = 0; i < kWidth; ++i) v.lane[i] = bf16_to_f32(from[i]);
    return v;
  }
  void store(T* to) const { std::copy_n(lane, kWidth, to); }
  void store_f16(std::uint16_t* to) const {
    for (int i = 0; i < kWidth; ++i) to[i] = f32_to_f16(lane[i]);
  }
  void store_bf16(std::uint16_t* to) const {
    for (int i = 0; i < kWidth; ++i) to[i] = f32_to_bf16(lane[i]);
  }

  template <class F>
  static Lanes map(Lanes a, Lanes b, F f) {
    Lanes v;
    for (int i = 0; i < kWidth; ++i) v.lane[i] = f(a.lane[i], b.lane[i]);
    return v;
  }
  friend Lanes operator+(Lanes a, Lanes b) {
    return map(a, b, [](T x, T y) { return x + y; });
  }
  friend Lanes operator-(Lanes a, Lanes b) {
    return map(a, b, [](T x, T y) { return x - y; });
  }
  friend Lanes operator*(Lanes a, Lanes b) {
    return map(a, b, [](T x, T y) { return x * y; });
  }
  friend Lanes operator/(Lanes a, Lanes b) {
    return map(a, b, [](T x, T y) { return x / y; });
  }
  static Lanes max(Lanes a, Lanes b) {
    return map(a, b, [](T x, T y) { return x > y ? x : y; });
  }
  static Lanes fma(Lanes a, Lanes b, Lanes c) {
    Lanes v;
    for (int i = 0; i < kWidth; ++i) v.lane[i] = a.lane[i] * b.lane[i] + c.lane[i];
    return v;
  }
  // Lane i of a where bit i is set, else of b.
  static Lanes select(std::uint32_t bits, Lanes a, Lanes b) {
    for (int i = 0; i < kWidth; ++i) {
      if ((bits >> i & 1U) == 0) a.lane[i] = b.lane[i];
    }
    return a;
  }
  // Lane i of x where that of a is less than that of b, else of y.
  static Lanes where_less(Lanes a, Lanes b, Lanes x, Lanes y) {
    for (int i = 0; i < kWidth; ++i) {
      if (!(a.lane[i] < b.lane[i])) x.lane[i] = y.lane[i];
    }
    return x;
  }
  static bool any_less(Lanes a, Lanes b) {
    bool any = false;
    for (int i = 0; i < kWidth; ++i) any |= a.lane[i] < b.lane[i];
    return any;
  }
  // A word of bits a lane; select() takes lane i of a where bit `row` of word i is set.
  using Words = std::array<std::uint32_t, kWidth>;
  static Words load_words(const std::uint32_t* from) {
    return {from[0], from[1], from[2], from[3]};
  }
  static Lanes select(const Words& words, int row, Lanes a, Lanes b) {
    for (int i = 0; i < kWidth; ++i) {
      if ((words[static_cast<std::size_t>(i)] >> row & 1U) == 0) a.lane[i] = b.lane[i];
    }
    return a;
  }
  // x - floor(x), and p * 2^floor(x) for p in [1, 2]; x below -127 counts as -127, whose power is
  // 0.
  static Lanes fraction(Lanes x) {
    return map(x, x,
               [](T a, T) { return std::max(a, T(-127)) - std::floor(std::max(a, T(-127))); });
  }
  static Lanes times_power_of_two(Lanes p, Lanes x) {
    return map(p, x, [](T a, T n) {
      const int whole = n >= T(-126) ? static_cast<int>(std::floor(n)) : -127;
      return a * std::bit_cast<float>(static_cast<std::uint32_t>(whole + 127) << 23);
    });
  }
  static T sum(Lanes a) { return (a.lane[0] + a.lane[1]) + (a.lane[2] + a.lane[3]); }
  // to[i] = sum of the lanes of a[i], for four vectors.
  static void store_sums(const Lanes* a, T* to) {
    for (int i = 0; i < 4; ++i) to[i] = sum(a[i]);
  }
  static T largest(Lanes a) {
    return std::max(std::max(a.lane[0], a.lane[1]), std::max(a.lane[2], a.lane[3]));
  }
  // Transposes kWidth rows of kWidth values.
  static void transpose(const T* from, std::int64_t from_stride, T* to, std::int64_t to_stride) {
    for (int i = 0; i < kWidth; ++i) {
      for (int j = 0; j < kWidth; ++j) to[j * to_stride + i] = from[i * from_stride + j];
    }
  }
};

using Vec = Lanes<float>;
using DoubleVec = Lanes<double>;

}  // namespace perpend::scalar
