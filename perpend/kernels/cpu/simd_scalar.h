#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "perpend/core/half.h"

namespace perpend::scalar {

// The vector interface of the loops in this folder without any instruction set: as many values as
// every processor of today has in a vector, in the compilers' own vector type.
template <class T>
struct Lanes {
  using Value = T;
  static constexpr int kWidth = 16 / sizeof(T);
  static constexpr int kBlockRows = 4;  // rows that the products hold in registers at once,
  static constexpr int kBlockVecs = 2;  // and vectors of each
  static constexpr int kRowVecs = 2;    // vectors of a row that stay in registers with few rows

  using Vector [[gnu::vector_size(16)]] = T;
  Vector lane;

  static Lanes set1(T x) { return {Vector{} + x}; }
  static Lanes zero() { return {Vector{}}; }
  static Lanes load(const T* from) {
    Lanes v;
    std::memcpy(&v.lane, from, sizeof(v.lane));
    return v;
  }
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
  void store(T* to) const { std::memcpy(to, &lane, sizeof(lane)); }
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
  friend Lanes operator+(Lanes a, Lanes b) { return {a.lane + b.lane}; }
  friend Lanes operator-(Lanes a, Lanes b) { return {a.lane - b.lane}; }
  friend Lanes operator*(Lanes a, Lanes b) { return {a.lane * b.lane}; }
  friend Lanes operator/(Lanes a, Lanes b) { return {a.lane / b.lane}; }
  static Lanes max(Lanes a, Lanes b) { return {a.lane > b.lane ? a.lane : b.lane}; }
  static Lanes fma(Lanes a, Lanes b, Lanes c) { return {a.lane * b.lane + c.lane}; }
  // Lane i of a where bit i is set, else of b.
  static Lanes select(std::uint32_t bits, Lanes a, Lanes b) {
    for (int i = 0; i < kWidth; ++i) {
      if ((bits >> i & 1U) == 0) a.lane[i] = b.lane[i];
    }
    return a;
  }
  // Lane i of x where that of a is less than that of b, else of y.
  static Lanes where_less(Lanes a, Lanes b, Lanes x, Lanes y) {
    return {a.lane < b.lane ? x.lane : y.lane};
  }
  static bool any_less(Lanes a, Lanes b) {
    bool any = false;
    for (int i = 0; i < kWidth; ++i) any |= a.lane[i] < b.lane[i];
    return any;
  }
  // A word of bits a lane; select() takes lane i of a where bit `row` of word i is set.
  using Words = std::array<std::uint32_t, kWidth>;
  static Words load_words(const std::uint32_t* from) {
    Words words;
    std::copy_n(from, kWidth, words.begin());
    return words;
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
    const Vector least = set1(-127).lane;
    const Vector from = x.lane < least ? least : x.lane;  // keeps what is not a number
    return {from - __builtin_convertvector(whole_part(from), Vector)};
  }
  static Lanes times_power_of_two(Lanes p, Lanes x) {
    const Vector least = set1(-127).lane;
    const Whole whole = whole_part(x.lane >= set1(-126).lane ? x.lane : least);
    const Whole bits = (whole + 127) << 23;
    Vector power;
    std::memcpy(&power, &bits, sizeof(power));
    return {p.lane * power};
  }
  static T sum(Lanes a) {
    T total = 0;
    for (int i = 0; i < kWidth; ++i) total += a.lane[i];
    return total;
  }
  // to[i] = sum of the lanes of a[i], for four vectors.
  static void store_sums(const Lanes* a, T* to) {
    for (int i = 0; i < 4; ++i) to[i] = sum(a[i]);
  }
  static T largest(Lanes a) {
    T top = a.lane[0];
    for (int i = 1; i < kWidth; ++i) top = std::max(top, a.lane[i]);
    return top;
  }
  // Transposes kWidth rows of kWidth values.
  static void transpose(const T* from, std::int64_t from_stride, T* to, std::int64_t to_stride) {
    for (int i = 0; i < kWidth; ++i) {
      for (int j = 0; j < kWidth; ++j) to[j * to_stride + i] = from[i * from_stride + j];
    }
  }

 private:
  using Whole [[gnu::vector_size(16)]] = std::int32_t;

  // floor(x), which has no instruction in the smallest sets.
  static Whole whole_part(Vector x) {
    static_assert(sizeof(T) == 4, "doubles take exp2 of the library");
    const Whole nearer_zero = __builtin_convertvector(x, Whole);
    return nearer_zero + (__builtin_convertvector(nearer_zero, Vector) > x);
  }
};

using Vec = Lanes<float>;
using DoubleVec = Lanes<double>;

}  // namespace perpend::scalar
