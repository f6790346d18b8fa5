#include <utility>

#include <immintrin.h>

#include "perpend/kernels/cpu/linear_blocks_avx512.h"
#include "perpend/kernels/cpu/linear_micro.h"
#include "perpend/kernels/cpu/panel.h"

namespace perpend {
namespace avx512 {
namespace {

using panel::kBlock;
using panel::kRows;

// Columns `at` .. `at` + 15 as their high and low terms.
void store_terms(__m512i quants, std::size_t at, ActivationTerms& terms) {
  const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(quants, _mm512_set1_epi32(8)), 4);
  const __m512i low = _mm512_sub_epi32(quants, _mm512_slli_epi32(high, 4));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(terms.high.data() + at), _mm512_cvtepi32_epi8(high));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(terms.low.data() + at), _mm512_cvtepi32_epi8(low));
}

void quantize_row(const float* x, std::int64_t in_features, QuantizedRowsOut out) {
  for (std::int64_t b = 0; b < in_features / kBlock; ++b, x += kBlock) {
    ActivationTerms& terms = out.terms[b];
    ActivationFactors& factors = out.factors[b];
    const __m512 first_values = _mm512_loadu_ps(x);
    const __m512 second_values = _mm512_loadu_ps(x + 16);
    const float largest = _mm512_reduce_max_ps(
        _mm512_max_ps(_mm512_abs_ps(first_values), _mm512_abs_ps(second_values)));
    const __m512 inverse = _mm512_set1_ps(largest > ActivationFactors::kSmallestMaximum
                                              ? ActivationFactors::kLargestQuant / largest
                                              : 0.0F);
    const __m512i first = _mm512_cvtps_epi32(_mm512_mul_ps(first_values, inverse));
    const __m512i second = _mm512_cvtps_epi32(_mm512_mul_ps(second_values, inverse));
    store_terms(first, 0, terms);
    store_terms(second, 16, terms);
    factors.scale = largest / ActivationFactors::kLargestQuant;
    factors.sum = _mm512_reduce_add_epi32(_mm512_add_epi32(first, second));
    factors.scaled_sum = factors.scale * static_cast<float>(factors.sum);
  }
}

// The dot products of a block with one term of 32 activations, from `dot` on.
__m512i dot_term(__m512i dot, const __m512i (&quants)[8],
                 const std::array<std::int8_t, kBlock>& term) {
  for (std::size_t j = 0; j < 8; ++j) {
    std::int32_t columns = 0;
    __builtin_memcpy(&columns, term.data() + 4 * j, 4);
    dot = _mm512_dpbusd_epi32(dot, quants[j], _mm512_set1_epi32(columns));
  }
  return dot;
}

template <PanelLayout kLayout, int kTileRows>
void integer_tile(const std::byte* block, std::int64_t num_blocks, QuantizedRows rows,
                  float* tile) {
  __m512 sums[kTileRows];
  for (auto& sum : sums) sum = _mm512_setzero_ps();
  for (std::int64_t b = 0; b < num_blocks; ++b, block += panel::block_bytes(kLayout)) {
    __m512i quants[8];
    load_quants<kLayout>(block, quants);
    const __m512 scales = load_f16(block + panel::quant_bytes(kLayout));
    for (int row = 0; row < kTileRows; ++row) {
      const ActivationTerms& terms = rows.terms[row * num_blocks + b];
      const ActivationFactors& x = rows.factors[row * num_blocks + b];
      const __m512i high = dot_term(_mm512_setzero_si512(), quants, terms.high);
      const __m512i low =
          dot_term(_mm512_set1_epi32(-panel::zero_point(kLayout) * x.sum), quants, terms.low);
      const __m512 product = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(high, 4), low));
      sums[row] =
          _mm512_fmadd_ps(product, _mm512_mul_ps(scales, _mm512_set1_ps(x.scale)), sums[row]);
      if constexpr (panel::has_min(kLayout)) {
        const __m512 mins = load_f16(block + panel::quant_bytes(kLayout) + panel::kScaleBytes);
        sums[row] = _mm512_fmadd_ps(mins, _mm512_set1_ps(x.scaled_sum), sums[row]);
      }
    }
  }
  for (int row = 0; row < kTileRows; ++row) _mm512_storeu_ps(tile + row * kRows, sums[row]);
}

// Rows in tiles of 8, then 4, 2 and 1.
template <class Tile>
void for_row_tiles(std::int64_t num_rows, Tile tile) {
  std::int64_t row = 0;
  for (; row + 8 <= num_rows; row += 8) tile(std::integral_constant<int, 8>{}, row);
  if (num_rows - row >= 4) {
    tile(std::integral_constant<int, 4>{}, row);
    row += 4;
  }
  if (num_rows - row >= 2) {
    tile(std::integral_constant<int, 2>{}, row);
    row += 2;
  }
  if (row < num_rows) tile(std::integral_constant<int, 1>{}, row);
}

template <PanelLayout kLayout>
void integer_rows(const std::byte* panel_data, std::int64_t num_blocks, QuantizedRows rows,
                  std::int64_t num_rows, float* tile) {
  for_row_tiles(num_rows, [&](auto tile_rows, std::int64_t row) {
    integer_tile<kLayout, tile_rows>(panel_data, num_blocks, rows + row * num_blocks,
                                     tile + row * kRows);
  });
}

void integer_panel(PanelLayout layout, const std::byte* panel_data, std::int64_t num_blocks,
                   QuantizedRows rows, std::int64_t num_rows, float* tile) {
  panel::visit_integer(layout, [&](auto constant) {
    integer_rows<constant>(panel_data, num_blocks, rows, num_rows, tile);
  });
}

template <PanelLayout kLayout>
__m512 load_weights(const std::byte* from) {
  if constexpr (kLayout == PanelLayout::kF32) {
    return _mm512_loadu_ps(from);
  } else if constexpr (kLayout == PanelLayout::kF16) {
    return load_f16(from);
  } else {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
}

template <PanelLayout kLayout>
void float_rows(const std::byte* panel_data, std::int64_t in_features, const float* x,
                std::int64_t x_stride, std::int64_t num_rows, float* tile) {
  constexpr auto kStep = static_cast<std::int64_t>(kRows * panel::float_bytes(kLayout));
  for_row_tiles(num_rows, [&](auto tile_rows, std::int64_t first_row) {
    __m512 sums[tile_rows];
    for (auto& sum : sums) sum = _mm512_setzero_ps();
    const float* columns = x + first_row * x_stride;
    for (std::int64_t column = 0; column < in_features; ++column) {
      const __m512 weights = load_weights<kLayout>(panel_data + column * kStep);
      for (int row = 0; row < tile_rows; ++row) {
        sums[row] =
            _mm512_fmadd_ps(weights, _mm512_set1_ps(columns[row * x_stride + column]), sums[row]);
      }
    }
    for (int row = 0; row < tile_rows; ++row) {
      _mm512_storeu_ps(tile + (first_row + row) * kRows, sums[row]);
    }
  });
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
}  // namespace avx512

const LinearMicro& linear_micro_avx512() {
  static constexpr LinearMicro kMicro{nullptr, nullptr, avx512::quantize_row, avx512::integer_panel,
                                      avx512::float_panel};
  return kMicro;
}

}  // namespace perpend
