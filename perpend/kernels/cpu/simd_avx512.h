#pragma once

#include <cstdint>

#include <immintrin.h>

namespace perpend::avx512 {

// The vector interface of attention_loops.h and row_loops.h: sixteen floats (see simd_scalar.h).
struct Vec {
  static constexpr int kWidth = 16;
  static constexpr int kKeys = 8;
  static constexpr int kRowVecs = 4;

  __m512 value;

  static Vec set1(float x) { return {_mm512_set1_ps(x)}; }
  static Vec zero() { return {_mm512_setzero_ps()}; }
  static Vec load(const float* from) { return {_mm512_loadu_ps(from)}; }
  static Vec load_f16(const std::uint16_t* from) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)))};
  }
  static Vec load_bf16(const std::uint16_t* from) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
  }
  void store(float* to) const { _mm512_storeu_ps(to, value); }
  void store_f16(std::uint16_t* to) const {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                        _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
  }
  void store_bf16(std::uint16_t* to) const {
    const __m512i bits = _mm512_castps_si512(value);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_srli_epi32(
        _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(rounded));
  }

  friend Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.value, b.value)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.value, b.value)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.value, b.value)}; }
  friend Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.value, b.value)}; }
  static Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.value, b.value)}; }
  static Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.value, b.value, c.value)}; }
  static Vec select(std::uint32_t bits, Vec a, Vec b) {
    return {_mm512_mask_blend_ps(static_cast<__mmask16>(bits), b.value, a.value)};
  }
  static Vec round(Vec a) {
    return {_mm512_roundscale_ps(a.value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
  }
  static Vec power_of_two(Vec n) {
    const __m512i biased = _mm512_add_epi32(_mm512_cvtps_epi32(n.value), _mm512_set1_epi32(127));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(biased, 23))};
  }
  static float sum(Vec a) { return _mm512_reduce_add_ps(a.value); }
  // to[i] = sum of the lanes of a[i], for four vectors.
  static void store_sums(const Vec* a, float* to) {
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a[0].value, a[1].value),
                                    _mm512_unpackhi_ps(a[0].value, a[1].value));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(a[2].value, a[3].value),
                                    _mm512_unpackhi_ps(a[2].value, a[3].value));
    const __m512 abcd = _mm512_add_ps(
        _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd))),
        _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd))));
    const __m256 half =
        _mm256_add_ps(_mm512_castps512_ps256(abcd), _mm512_extractf32x8_ps(abcd, 1));
    _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
  }
  static float largest(Vec a) { return _mm512_reduce_max_ps(a.value); }
};

}  // namespace perpend::avx512
