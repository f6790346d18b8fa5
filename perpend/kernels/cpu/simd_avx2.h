#pragma once

#include <cstdint>

#include <immintrin.h>

namespace perpend::avx2 {

// The vector interface of the loops in this folder: eight floats (see simd_scalar.h).
struct Vec {
  using Value = float;
  static constexpr int kWidth = 8;
  static constexpr int kBlockRows = 4;
  static constexpr int kBlockVecs = 2;
  static constexpr int kRowVecs = 2;

  __m256 value;

  static Vec set1(float x) { return {_mm256_set1_ps(x)}; }
  static Vec zero() { return {_mm256_setzero_ps()}; }
  static Vec load(const float* from) { return {_mm256_loadu_ps(from)}; }
  static Vec load_f16(const std::uint16_t* from) {
    return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)))};
  }
  static Vec load_bf16(const std::uint16_t* from) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16))};
  }
  void store(float* to) const { _mm256_storeu_ps(to, value); }
  void store_f16(std::uint16_t* to) const {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                     _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
  }
  void store_bf16(std::uint16_t* to) const {
    const __m256i bits = _mm256_castps_si256(value);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_srli_epi32(
        _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(rounded, rounded), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(packed));
  }

  friend Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.value, b.value)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.value, b.value)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.value, b.value)}; }
  friend Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.value, b.value)}; }
  static Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.value, b.value)}; }
  static Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.value, b.value, c.value)}; }
  static Vec select(std::uint32_t bits, Vec a, Vec b) {
    const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i chosen =
        _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), lane), lane);
    return {_mm256_blendv_ps(b.value, a.value, _mm256_castsi256_ps(chosen))};
  }
  static Vec where_less(Vec a, Vec b, Vec x, Vec y) {
    return {_mm256_blendv_ps(y.value, x.value, _mm256_cmp_ps(a.value, b.value, _CMP_LT_OQ))};
  }
  static bool any_less(Vec a, Vec b) {
    return _mm256_movemask_ps(_mm256_cmp_ps(a.value, b.value, _CMP_LT_OQ)) != 0;
  }
  using Words = __m256i;
  static Words load_words(const std::uint32_t* from) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  }
  static Vec select(Words words, int row, Vec a, Vec b) {
    const __m256i signs = _mm256_sll_epi32(words, _mm_cvtsi32_si128(31 - row));
    return {_mm256_blendv_ps(b.value, a.value, _mm256_castsi256_ps(signs))};
  }
  static Vec fraction(Vec x) {
    x = max(set1(-127.0F), x);
    return {_mm256_sub_ps(x.value, _mm256_floor_ps(x.value))};
  }
  static Vec times_power_of_two(Vec p, Vec x) {
    const __m256 whole = _mm256_floor_ps(max(set1(-127.0F), x).value);
    const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127));
    return {_mm256_mul_ps(p.value, _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23)))};
  }
  static float sum(Vec a) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(a.value), _mm256_extractf128_ps(a.value, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_shuffle_ps(half, half, 1)));
  }
  // to[i] = sum of the lanes of a[i], for four vectors.
  static void store_sums(const Vec* a, float* to) {
    const __m256 abcd = _mm256_hadd_ps(_mm256_hadd_ps(a[0].value, a[1].value),
                                       _mm256_hadd_ps(a[2].value, a[3].value));
    _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1)));
  }
  static float largest(Vec a) {
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(a.value), _mm256_extractf128_ps(a.value, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_shuffle_ps(half, half, 1)));
  }
  static void transpose(const float* from, std::int64_t from_stride, float* to,
                        std::int64_t to_stride) {
    __m256 pairs[8];
    __m256 fours[8];
    for (int i = 0; i < 4; ++i) {
      const __m256 even = _mm256_loadu_ps(from + 2 * i * from_stride);
      const __m256 odd = _mm256_loadu_ps(from + (2 * i + 1) * from_stride);
      pairs[2 * i] = _mm256_unpacklo_ps(even, odd);
      pairs[2 * i + 1] = _mm256_unpackhi_ps(even, odd);
    }
    for (int i = 0; i < 8; i += 4) {
      for (int j = 0; j < 2; ++j) {
        fours[i + 2 * j] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0x44);
        fours[i + 2 * j + 1] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0xee);
      }
    }
    for (int i = 0; i < 4; ++i) {
      _mm256_storeu_ps(to + i * to_stride, _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20));
      _mm256_storeu_ps(to + (i + 4) * to_stride,
                       _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31));
    }
  }
};

}  // namespace perpend::avx2
