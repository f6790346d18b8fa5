#pragma once

#include <cstdint>

#include <immintrin.h>

namespace perpend::avx512 {

// Transposes 16 rows of 16 words, load(i) to store(j, column j).
template <class Load, class Store>
[[gnu::always_inline]] inline void transpose_words(Load load, Store store) {
  __m512i pairs[16];
  __m512i fours[16];
  for (int i = 0; i < 8; ++i) {
    const __m512i even = load(2 * i);
    const __m512i odd = load(2 * i + 1);
    pairs[2 * i] = _mm512_unpacklo_epi32(even, odd);
    pairs[2 * i + 1] = _mm512_unpackhi_epi32(even, odd);
  }
  for (int i = 0; i < 16; i += 4) {
    for (int j = 0; j < 2; ++j) {
      fours[i + 2 * j] = _mm512_unpacklo_epi64(pairs[i + j], pairs[i + j + 2]);
      fours[i + 2 * j + 1] = _mm512_unpackhi_epi64(pairs[i + j], pairs[i + j + 2]);
    }
  }
  // fours[4 i + j] holds, in quarter l, column 4 l + j of rows 4 i to 4 i + 3.
  for (int j = 0; j < 4; ++j) {
    const __m512i even_low = _mm512_shuffle_i32x4(fours[j], fours[4 + j], 0x88);
    const __m512i even_high = _mm512_shuffle_i32x4(fours[8 + j], fours[12 + j], 0x88);
    const __m512i odd_low = _mm512_shuffle_i32x4(fours[j], fours[4 + j], 0xdd);
    const __m512i odd_high = _mm512_shuffle_i32x4(fours[8 + j], fours[12 + j], 0xdd);
    store(j, _mm512_shuffle_i32x4(even_low, even_high, 0x88));
    store(4 + j, _mm512_shuffle_i32x4(odd_low, odd_high, 0x88));
    store(8 + j, _mm512_shuffle_i32x4(even_low, even_high, 0xdd));
    store(12 + j, _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd));
  }
}

// The same in memory; strides in words.
inline void transpose_words(const void* from, std::int64_t from_stride, void* to,
                            std::int64_t to_stride) {
  const auto* in = static_cast<const std::int32_t*>(from);
  auto* out = static_cast<std::int32_t*>(to);
  transpose_words([&](int i) { return _mm512_loadu_si512(in + i * from_stride); },
                  [&](int j, __m512i column) { _mm512_storeu_si512(out + j * to_stride, column); });
}

// The vector interface of the loops in this folder: sixteen floats (see simd_scalar.h).
struct Vec {
  using Value = float;
  static constexpr int kWidth = 16;
  static constexpr int kBlockRows = 8;
  static constexpr int kBlockVecs = 2;
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
  static Vec where_less(Vec a, Vec b, Vec x, Vec y) {
    return {
        _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.value, b.value, _CMP_LT_OQ), y.value, x.value)};
  }
  static bool any_less(Vec a, Vec b) {
    return _mm512_cmp_ps_mask(a.value, b.value, _CMP_LT_OQ) != 0;
  }
  using Words = __m512i;
  static Words load_words(const std::uint32_t* from) { return _mm512_loadu_si512(from); }
  static Vec select(Words words, int row, Vec a, Vec b) {
    const __mmask16 chosen = _mm512_test_epi32_mask(words, _mm512_set1_epi32(1 << row));
    return {_mm512_mask_blend_ps(chosen, b.value, a.value)};
  }
  static Vec fraction(Vec x) { return {_mm512_reduce_ps(x.value, kFloor)}; }
  // Subnormal results would cost a hundred cycles each, here and in the products that read them; a
  // NaN stays one.
  static Vec times_power_of_two(Vec p, Vec x) {
    const __mmask16 normal = _mm512_cmp_ps_mask(x.value, _mm512_set1_ps(-126.0F), _CMP_NLT_UQ);
    return {_mm512_maskz_scalef_ps(normal, p.value, x.value)};
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
  static void transpose(const float* from, std::int64_t from_stride, float* to,
                        std::int64_t to_stride) {
    transpose_words(from, from_stride, to, to_stride);
  }

 private:
  static constexpr int kFloor = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
};

}  // namespace perpend::avx512
