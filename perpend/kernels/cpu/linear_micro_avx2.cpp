#include <immintrin.h>

#include "perpend/kernels/cpu/linear_micro.h"
#include "perpend/kernels/cpu/panel.h"

namespace perpend {
namespace avx2 {
namespace {

using panel::kBlock;
using panel::kRows;

__m256 load_f16(const std::byte* from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

float reduce_max(__m256 values) {
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps(values, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(half, _mm_shuffle_ps(half, half, 1)));
}

std::int32_t reduce_add(__m256i values) {
  __m128i half = _mm_add_epi32(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1));
  half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1)));
}

// 32 integers as bytes, of each the low one with its sign.
void store_bytes(const __m256i (&integers)[4], std::int8_t* bytes) {
  // Packing works within 128-bit halves; the permutation restores the order.
  const __m256i packed =
      _mm256_permutevar8x32_epi32(_mm256_packs_epi16(_mm256_packs_epi32(integers[0], integers[1]),
                                                     _mm256_packs_epi32(integers[2], integers[3])),
                                  _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(bytes), packed);
}

void store_terms(const __m256i (&quants)[4], ActivationTerms& terms) {
  __m256i high[4];
  __m256i low[4];
  for (int i = 0; i < 4; ++i) {
    high[i] = _mm256_srai_epi32(_mm256_add_epi32(quants[i], _mm256_set1_epi32(8)), 4);
    low[i] = _mm256_sub_epi32(quants[i], _mm256_slli_epi32(high[i], 4));
  }
  store_bytes(high, terms.high.data());
  store_bytes(low, terms.low.data());
}

void quantize_row(const float* x, std::int64_t in_features, QuantizedRowsOut out) {
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  for (std::int64_t b = 0; b < in_features / kBlock; ++b, x += kBlock) {
    ActivationTerms& terms = out.terms[b];
    ActivationFactors& factors = out.factors[b];
    __m256 values[4];
    __m256 largest_values = _mm256_setzero_ps();
    for (int i = 0; i < 4; ++i) {
      values[i] = _mm256_loadu_ps(x + 8 * i);
      largest_values = _mm256_max_ps(largest_values, _mm256_and_ps(values[i], magnitude));
    }
    const float largest = reduce_max(largest_values);
    const __m256 inverse = _mm256_set1_ps(largest > ActivationFactors::kSmallestMaximum
                                              ? ActivationFactors::kLargestQuant / largest
                                              : 0.0F);
    __m256i quants[4];
    __m256i sum = _mm256_setzero_si256();
    for (int i = 0; i < 4; ++i) {
      quants[i] = _mm256_cvtps_epi32(_mm256_mul_ps(values[i], inverse));
      sum = _mm256_add_epi32(sum, quants[i]);
    }
    store_terms(quants, terms);
    factors.scale = largest / ActivationFactors::kLargestQuant;
    factors.sum = reduce_add(sum);
    factors.scaled_sum = factors.scale * static_cast<float>(factors.sum);
  }
}

// dot += sum of 4 products in each of 8 lanes. 4-bit quants can not overflow 16 bits in pairs;
// bytes could, so their even and odd columns are multiplied apart.
template <PanelLayout kLayout>
__m256i dot_add(__m256i dot, __m256i quants, __m256i x) {
  const __m256i ones = _mm256_set1_epi16(1);
  if constexpr (panel::has_nibbles(kLayout)) {
    return _mm256_add_epi32(dot, _mm256_madd_epi16(_mm256_maddubs_epi16(quants, x), ones));
  } else {
    const __m256i even = _mm256_and_si256(x, _mm256_set1_epi16(0x00ff));
    const __m256i odd = _mm256_andnot_si256(_mm256_set1_epi16(0x00ff), x);
    dot = _mm256_add_epi32(dot, _mm256_madd_epi16(_mm256_maddubs_epi16(quants, even), ones));
    return _mm256_add_epi32(dot, _mm256_madd_epi16(_mm256_maddubs_epi16(quants, odd), ones));
  }
}

// Quants of 4 columns of rows 8 * half .. 8 * half + 7.
template <PanelLayout kLayout>
__m256i load_quants(const std::byte* block, int half, int j) {
  const auto* from = reinterpret_cast<const __m256i*>(
      block + 64 * (panel::has_nibbles(kLayout) ? j % 4 : j) + 32 * half);
  const __m256i bytes = _mm256_loadu_si256(from);
  if constexpr (panel::has_nibbles(kLayout)) {
    const __m256i mask = _mm256_set1_epi8(15);
    return _mm256_and_si256(j < 4 ? bytes : _mm256_srli_epi16(bytes, 4), mask);
  } else {
    return bytes;
  }
}

__m256i broadcast_columns(const std::int8_t* term) {
  std::int32_t columns = 0;
  __builtin_memcpy(&columns, term, 4);
  return _mm256_set1_epi32(columns);
}

template <PanelLayout kLayout, int kTileRows>
void integer_tile(const std::byte* block, std::int64_t num_blocks, QuantizedRows rows, int half,
                  float* tile) {
  __m256 sums[kTileRows];
  for (auto& sum : sums) sum = _mm256_setzero_ps();
  for (std::int64_t b = 0; b < num_blocks; ++b, block += panel::block_bytes(kLayout)) {
    __m256i high[kTileRows];
    __m256i low[kTileRows];
    for (int row = 0; row < kTileRows; ++row) {
      high[row] = _mm256_setzero_si256();
      low[row] =
          _mm256_set1_epi32(-panel::zero_point(kLayout) * rows.factors[row * num_blocks + b].sum);
    }
    for (int j = 0; j < 8; ++j) {
      const __m256i quants = load_quants<kLayout>(block, half, j);
      for (int row = 0; row < kTileRows; ++row) {
        const ActivationTerms& x = rows.terms[row * num_blocks + b];
        high[row] = dot_add<kLayout>(high[row], quants, broadcast_columns(x.high.data() + 4 * j));
        low[row] = dot_add<kLayout>(low[row], quants, broadcast_columns(x.low.data() + 4 * j));
      }
    }
    const std::byte* scale_data = block + panel::quant_bytes(kLayout) + 16 * half;
    const __m256 scales = load_f16(scale_data);
    for (int row = 0; row < kTileRows; ++row) {
      const ActivationFactors& x = rows.factors[row * num_blocks + b];
      const __m256i dot = _mm256_add_epi32(_mm256_slli_epi32(high[row], 4), low[row]);
      sums[row] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot),
                                  _mm256_mul_ps(scales, _mm256_set1_ps(x.scale)), sums[row]);
      if constexpr (panel::has_min(kLayout)) {
        sums[row] = _mm256_fmadd_ps(load_f16(scale_data + panel::kScaleBytes),
                                    _mm256_set1_ps(x.scaled_sum), sums[row]);
      }
    }
  }
  for (int row = 0; row < kTileRows; ++row) {
    _mm256_storeu_ps(tile + row * kRows + 8 * half, sums[row]);
  }
}

template <PanelLayout kLayout>
void integer_rows(const std::byte* panel_data, std::int64_t num_blocks, QuantizedRows rows,
                  std::int64_t num_rows, float* tile) {
  for (int half = 0; half < 2; ++half) {
    std::int64_t row = 0;
    for (; row + 4 <= num_rows; row += 4) {
      integer_tile<kLayout, 4>(panel_data, num_blocks, rows + row * num_blocks, half,
                               tile + row * kRows);
    }
    for (; row < num_rows; ++row) {
      integer_tile<kLayout, 1>(panel_data, num_blocks, rows + row * num_blocks, half,
                               tile + row * kRows);
    }
  }
}

void integer_panel(PanelLayout layout, const std::byte* panel_data, std::int64_t num_blocks,
                   QuantizedRows rows, std::int64_t num_rows, float* tile) {
  panel::visit_integer(layout, [&](auto constant) {
    integer_rows<constant>(panel_data, num_blocks, rows, num_rows, tile);
  });
}

template <PanelLayout kLayout>
__m256 load_weights(const std::byte* from) {
  if constexpr (kLayout == PanelLayout::kF32) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(from));
  } else if constexpr (kLayout == PanelLayout::kF16) {
    return load_f16(from);
  } else {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
}

template <PanelLayout kLayout, int kTileRows>
void float_tile(const std::byte* panel_data, std::int64_t in_features, const float* x,
                std::int64_t x_stride, float* tile) {
  constexpr auto kBytes = static_cast<std::int64_t>(panel::float_bytes(kLayout));
  __m256 low[kTileRows];
  __m256 high[kTileRows];
  for (int row = 0; row < kTileRows; ++row) low[row] = high[row] = _mm256_setzero_ps();
  for (std::int64_t column = 0; column < in_features; ++column) {
    const std::byte* from = panel_data + column * kRows * kBytes;
    const __m256 low_weights = load_weights<kLayout>(from);
    const __m256 high_weights = load_weights<kLayout>(from + 8 * kBytes);
    for (int row = 0; row < kTileRows; ++row) {
      const __m256 value = _mm256_set1_ps(x[row * x_stride + column]);
      low[row] = _mm256_fmadd_ps(low_weights, value, low[row]);
      high[row] = _mm256_fmadd_ps(high_weights, value, high[row]);
    }
  }
  for (int row = 0; row < kTileRows; ++row) {
    _mm256_storeu_ps(tile + row * kRows, low[row]);
    _mm256_storeu_ps(tile + row * kRows + 8, high[row]);
  }
}

template <PanelLayout kLayout>
void float_rows(const std::byte* panel_data, std::int64_t in_features, const float* x,
                std::int64_t x_stride, std::int64_t num_rows, float* tile) {
  std::int64_t row = 0;
  for (; row + 4 <= num_rows; row += 4) {
    float_tile<kLayout, 4>(panel_data, in_features, x + row * x_stride, x_stride,
                           tile + row * kRows);
  }
  for (; row < num_rows; ++row) {
    float_tile<kLayout, 1>(panel_data, in_features, x + row * x_stride, x_stride,
                           tile + row * kRows);
  }
}

void float_panel(PanelLayout layout, const std::byte* panel_data, std::int64_t in_features,
                 const float* x, std::int64_t x_stride, std::int64_t num_rows, float* tile) {
  switch (layout) {
    case PanelLayout::kF32:
      return float_rows<PanelLayout::kF32>(panel_data, in_features, x, x_stride, num_rows, tile);
    case PanelLayout::kF16:
      return float_rows<PanelLayout::kF16>(panel_data, in_features, x, x_stride, num_rows, tile);
    default:
      return float_rows<PanelLayout::kBF16>(panel_data, in_features, x, x_stride, num_rows, tile);
  }
}

}  // namespace
}  // namespace avx2

const LinearMicro& linear_micro_avx2() {
  static constexpr LinearMicro kMicro{nullptr, nullptr, avx2::quantize_row, avx2::integer_panel,
                                      avx2::float_panel};
  return kMicro;
}

}  // namespace perpend
