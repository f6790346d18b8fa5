#include <algorithm>
#include <array>

#include <immintrin.h>

#include "perpend/kernels/cpu/amx_tile.h"
#include "perpend/kernels/cpu/linear_blocks_avx512.h"
#include "perpend/kernels/cpu/linear_micro.h"
#include "perpend/kernels/cpu/panel.h"

namespace perpend {
namespace amx {
namespace {

using panel::kRows;

// Products of one block that take a register of their own: both terms meet 4-bit weights in one,
// since 16 times such a weight is still a byte.
template <PanelLayout kLayout>
constexpr int kNumProducts = panel::has_nibbles(kLayout) ? 1 : 2;

// Registers. The products of a block are summed while those of the next are on their way, hence two
// sets of those.
constexpr int kSets = 2;
constexpr int kTerms = 0;  // of 16 rows: 32 high ones, then 32 low ones
constexpr int weights_register(int product) { return 1 + product; }
constexpr int products_register(int set, int product) { return 3 + 2 * set + product; }

// What the terms of a block of activations meet, a register row each 4 of them: 8 rows for the high
// terms, 8 for the low ones.
template <PanelLayout kLayout>
struct Weights {
  void unpack(const std::byte* block) {
    __m512i quants[8];
    avx512::load_quants<kLayout>(block, quants);
    for (int j = 0; j < 8; ++j) {
      if constexpr (kNumProducts<kLayout> == 1) {
        rows[0][j] = _mm512_slli_epi16(quants[j], 4);
        rows[0][8 + j] = quants[j];
      } else {
        rows[0][j] = rows[1][8 + j] = quants[j];
        rows[0][8 + j] = rows[1][j] = _mm512_setzero_si512();
      }
    }
  }

  __m512i rows[kNumProducts<kLayout>][16];
};

template <PanelLayout kLayout>
struct Products {
  __m512i rows[kNumProducts<kLayout>][kTileRows];
};

template <int kSet, int kProduct>
void start_product(const __m512i* weights) {
  constexpr int kWeights = weights_register(kProduct);
  using Product = Tile<products_register(kSet, kProduct)>;
  Tile<kWeights>::load(weights, 64);
  Product::zero();
  Product::template add_product<kTerms, kWeights>();
}

template <int kSet, PanelLayout kLayout>
void start_products(const Weights<kLayout>& weights, const ActivationTerms& x,
                    std::int64_t row_bytes) {
  Tile<kTerms>::load(x.high.data(), row_bytes);
  start_product<kSet, 0>(weights.rows[0]);
  if constexpr (kNumProducts<kLayout> == 2) start_product<kSet, 1>(weights.rows[1]);
}

template <int kSet, PanelLayout kLayout>
void finish_products(Products<kLayout>& products) {
  Tile<products_register(kSet, 0)>::store(products.rows[0], 64);
  if constexpr (kNumProducts<kLayout> == 2) {
    Tile<products_register(kSet, 1)>::store(products.rows[1], 64);
  }
}

// sums += scaled products of one block, in the order of operations of the other instruction sets.
template <PanelLayout kLayout>
void add_products(const Products<kLayout>& products, const std::byte* block,
                  const ActivationFactors* x, std::int64_t num_blocks, float* sums) {
  const std::byte* factors = block + panel::quant_bytes(kLayout);
  const __m512 scales = avx512::load_f16(factors);
  __m512 mins = _mm512_setzero_ps();
  if constexpr (panel::has_min(kLayout)) mins = avx512::load_f16(factors + panel::kScaleBytes);
  for (std::size_t row = 0; row < kTileRows; ++row, x += num_blocks, sums += kRows) {
    __m512i dot = products.rows[0][row];
    if constexpr (kNumProducts<kLayout> == 2) {
      dot = _mm512_add_epi32(_mm512_slli_epi32(dot, 4), products.rows[1][row]);
    }
    if constexpr (panel::zero_point(kLayout) != 0) {
      dot = _mm512_sub_epi32(dot, _mm512_set1_epi32(panel::zero_point(kLayout) * x->sum));
    }
    __m512 sum =
        _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(scales, _mm512_set1_ps(x->scale)),
                        _mm512_loadu_ps(sums));
    if constexpr (panel::has_min(kLayout)) {
      sum = _mm512_fmadd_ps(mins, _mm512_set1_ps(x->scaled_sum), sum);
    }
    _mm512_storeu_ps(sums, sum);
  }
}

// One tile of rows. A step starts block b, fetches the products of b - 1, unpacks the weights of b
// + 1 and adds up the products of b - 2. A load waits long for a store of the other kind, vector or
// tile, that has only just happened; the sums lie between them.
template <PanelLayout kLayout>
class RowTile {
 public:
  RowTile(const std::byte* blocks, std::int64_t num_blocks, QuantizedRows x, float* sums)
      : blocks_(blocks), num_blocks_(num_blocks), x_(x), sums_(sums) {}

  void run() {
    std::fill_n(sums_, kTileRows * kRows, 0.0F);
    weights_[0].unpack(blocks_);
    for (std::int64_t b = 0; b < num_blocks_ + 2; b += kSets) {
      step<0>(b);
      step<1>(b + 1);
    }
  }

 private:
  template <int kSet>
  void step(std::int64_t b) {
    const std::byte* block = blocks_ + b * kBytes;
    if (b < num_blocks_) start_products<kSet>(weights_[kSet], x_.terms[b], row_bytes());
    if (b >= 1 && b - 1 < num_blocks_) finish_products<1 - kSet>(products_[1 - kSet]);
    if (b + 1 < num_blocks_) weights_[1 - kSet].unpack(block + kBytes);
    if (b >= 2 && b - 2 < num_blocks_) {
      add_products<kLayout>(products_[kSet], block - 2 * kBytes, x_.factors + b - 2, num_blocks_,
                            sums_);
    }
  }
  std::int64_t row_bytes() const {
    return num_blocks_ * static_cast<std::int64_t>(sizeof(ActivationTerms));
  }

  static constexpr auto kBytes = static_cast<std::int64_t>(panel::block_bytes(kLayout));
  const std::byte* blocks_;
  std::int64_t num_blocks_;
  QuantizedRows x_;
  float* sums_;
  std::array<Weights<kLayout>, kSets> weights_;
  std::array<Products<kLayout>, kSets> products_;
};

template <PanelLayout kLayout>
void integer_rows(const std::byte* panel_data, std::int64_t num_blocks, QuantizedRows rows,
                  std::int64_t num_rows, float* tile) {
  for (std::int64_t row = 0; row < num_rows; row += kTileRows) {
    float* sums = tile + row * kRows;
    RowTile<kLayout>(panel_data, num_blocks, rows + row * num_blocks, sums).run();
  }
}

void integer_tiles(PanelLayout layout, const std::byte* panel_data, std::int64_t num_blocks,
                   QuantizedRows rows, std::int64_t num_rows, float* tile) {
  panel::visit_integer(layout, [&](auto constant) {
    integer_rows<constant>(panel_data, num_blocks, rows, num_rows, tile);
  });
}

// Whole tiles of rows here, the rest as one without tile registers.
void integer_panel(PanelLayout layout, const std::byte* panel_data, std::int64_t num_blocks,
                   QuantizedRows rows, std::int64_t num_rows, float* tile) {
  const std::int64_t tiled = num_rows - num_rows % kTileRows;
  if (tiled > 0) integer_tiles(layout, panel_data, num_blocks, rows, tiled, tile);
  if (tiled < num_rows) {
    linear_micro_avx512().integer_panel(layout, panel_data, num_blocks, rows + tiled * num_blocks,
                                        num_rows - tiled, tile + tiled * kRows);
  }
}

}  // namespace
}  // namespace amx

const LinearMicro& linear_micro_amx() {
  static const LinearMicro micro{amx::acquire_tile_registers, amx::release_tile_registers,
                                 linear_micro_avx512().quantize_row, amx::integer_panel,
                                 linear_micro_avx512().float_panel};
  return micro;
}

}  // namespace perpend
