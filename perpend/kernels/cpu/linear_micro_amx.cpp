#include <algorithm>
#include <array>

#include <immintrin.h>

#include "perpend/kernels/cpu/linear_blocks_avx512.h"
#include "perpend/kernels/cpu/linear_micro.h"
#include "perpend/kernels/cpu/panel.h"

namespace perpend {
namespace amx {
namespace {

using panel::kBlock;
using panel::kRows;

// Rows of activations that one tile register holds.
constexpr std::int64_t kTileRows = 16;

// A tile register. Written as assembly because GCC's intrinsics take register numbers as literals
// only and, in GCC 12, do not say that they read memory.
template <int kRegister>
struct Tile {
  static void zero() { asm volatile("tilezero %%tmm%c0" : : "i"(kRegister)); }
  static void load(const void* from, std::int64_t row_bytes) {
    asm volatile("tileloadd (%1,%2,1), %%tmm%c0"
                 :
                 : "i"(kRegister), "r"(from), "r"(row_bytes)
                 : "memory");
  }
  static void store(void* to, std::int64_t row_bytes) {
    asm volatile("tilestored %%tmm%c0, (%1,%2,1)"
                 :
                 : "i"(kRegister), "r"(to), "r"(row_bytes)
                 : "memory");
  }
  // += kSigned (rows of bytes) times kUnsigned (4 columns of 16 rows a register row).
  template <int kSigned, int kUnsigned>
  static void add_product() {
    asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0"
                 :
                 : "i"(kRegister), "i"(kSigned), "i"(kUnsigned));
  }
};

// Two sets of registers take turns, so that the products of a block are summed while those of the
// next are on their way.
constexpr int kSets = 2;
template <int kSet>
struct Registers {
  static constexpr int kWeights = 4 * kSet;    // a block of weights
  static constexpr int kTerms = 4 * kSet + 1;  // the high, then the low terms of 16 rows
  static constexpr int kHigh = 4 * kSet + 2;
  static constexpr int kLow = 4 * kSet + 3;
};

struct alignas(64) TileShapes {
  TileShapes() {
    shape_set<Registers<0>>();
    shape_set<Registers<1>>();
  }
  template <class Set>
  void shape_set() {
    shape(Set::kWeights, kBlock / 4, 4 * kRows);
    shape(Set::kTerms, kTileRows, kBlock);
    shape(Set::kHigh, kTileRows, 4 * kRows);
    shape(Set::kLow, kTileRows, 4 * kRows);
  }
  void shape(std::size_t tile, int num_rows, int row_bytes) {
    rows[tile] = static_cast<std::uint8_t>(num_rows);
    columns[tile] = static_cast<std::uint16_t>(row_bytes);
  }

  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::array<std::uint8_t, 14> reserved{};
  std::array<std::uint16_t, 16> columns{};  // bytes a row
  std::array<std::uint8_t, 16> rows{};
};
static_assert(sizeof(TileShapes) == 64);

// The tile registers of this thread while it lives.
class TileScope {
 public:
  TileScope() {
    static const TileShapes shapes;
    _tile_loadconfig(&shapes);
  }
  ~TileScope() { _tile_release(); }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

// Products of one block of weights with the terms of 16 rows.
struct Products {
  alignas(64) std::array<std::int32_t, kTileRows * kRows> high;
  alignas(64) std::array<std::int32_t, kTileRows * kRows> low;
};

template <PanelLayout kLayout, class Set>
void start_products(const std::byte* block, const ActivationBlock& x, std::int64_t row_bytes) {
  __m512i quants[8];
  avx512::load_quants<kLayout>(block, quants);
  Tile<Set::kWeights>::load(quants, 64);
  Tile<Set::kHigh>::zero();
  Tile<Set::kTerms>::load(x.high.data(), row_bytes);
  Tile<Set::kHigh>::template add_product<Set::kTerms, Set::kWeights>();
  Tile<Set::kLow>::zero();
  Tile<Set::kTerms>::load(x.low.data(), row_bytes);
  Tile<Set::kLow>::template add_product<Set::kTerms, Set::kWeights>();
}

template <class Set>
void finish_products(Products& products) {
  Tile<Set::kHigh>::store(products.high.data(), 4 * kRows);
  Tile<Set::kLow>::store(products.low.data(), 4 * kRows);
}

// sums += scaled products of one block, in the order of operations of the other instruction sets.
template <PanelLayout kLayout>
void add_products(const Products& products, const std::byte* block, const ActivationBlock* x,
                  std::int64_t num_blocks, float* sums) {
  const __m512 scales = avx512::load_f16(block + panel::quant_bytes(kLayout));
  for (std::size_t row = 0; row < kTileRows; ++row, x += num_blocks, sums += kRows) {
    const __m512i high = _mm512_load_si512(products.high.data() + row * kRows);
    __m512i dot = _mm512_add_epi32(_mm512_slli_epi32(high, 8),
                                   _mm512_load_si512(products.low.data() + row * kRows));
    if constexpr (panel::zero_point(kLayout) != 0) {
      dot = _mm512_sub_epi32(dot, _mm512_set1_epi32(panel::zero_point(kLayout) * x->sum));
    }
    __m512 sum =
        _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(scales, _mm512_set1_ps(x->scale)),
                        _mm512_loadu_ps(sums));
    if constexpr (panel::has_min(kLayout)) {
      const __m512 mins =
          avx512::load_f16(block + panel::quant_bytes(kLayout) + panel::kScaleBytes);
      sum = _mm512_fmadd_ps(mins, _mm512_set1_ps(x->scaled_sum), sum);
    }
    _mm512_storeu_ps(sums, sum);
  }
}

// One tile of rows: starts block b, fetches the products of block b - 1, adds up those of b - 2. A
// vector load waits long for a tile store that has only just happened.
template <PanelLayout kLayout>
class RowTile {
 public:
  RowTile(const std::byte* blocks, std::int64_t num_blocks, const ActivationBlock* x, float* sums)
      : blocks_(blocks), num_blocks_(num_blocks), x_(x), sums_(sums) {}

  void run() {
    std::fill_n(sums_, kTileRows * kRows, 0.0F);
    for (std::int64_t b = 0; b < num_blocks_ + 2; b += 2) {
      step<Registers<0>, Registers<1>>(b, products_[0], products_[1]);
      step<Registers<1>, Registers<0>>(b + 1, products_[1], products_[0]);
    }
  }

 private:
  template <class Set, class OtherSet>
  void step(std::int64_t b, Products& products, Products& other_products) {
    const std::byte* block = blocks_ + b * kBytes;
    if (b < num_blocks_) start_products<kLayout, Set>(block, x_[b], row_bytes());
    if (b >= 2 && b - 2 < num_blocks_) {
      add_products<kLayout>(products, block - 2 * kBytes, x_ + b - 2, num_blocks_, sums_);
    }
    if (b >= 1 && b - 1 < num_blocks_) finish_products<OtherSet>(other_products);
  }
  std::int64_t row_bytes() const {
    return num_blocks_ * static_cast<std::int64_t>(sizeof(ActivationBlock));
  }

  static constexpr auto kBytes = static_cast<std::int64_t>(panel::block_bytes(kLayout));
  const std::byte* blocks_;
  std::int64_t num_blocks_;
  const ActivationBlock* x_;
  float* sums_;
  std::array<Products, 2> products_;
};

template <PanelLayout kLayout>
void integer_rows(const std::byte* panel_data, std::int64_t num_blocks, const ActivationBlock* rows,
                  std::int64_t num_rows, float* tile) {
  const TileScope scope;
  for (std::int64_t row = 0; row < num_rows; row += kTileRows) {
    RowTile<kLayout>(panel_data, num_blocks, rows + row * num_blocks, tile + row * kRows).run();
  }
}

void integer_tiles(PanelLayout layout, const std::byte* panel_data, std::int64_t num_blocks,
                   const ActivationBlock* rows, std::int64_t num_rows, float* tile) {
  switch (layout) {
    case PanelLayout::kNibbles:
      return integer_rows<PanelLayout::kNibbles>(panel_data, num_blocks, rows, num_rows, tile);
    case PanelLayout::kNibblesMin:
      return integer_rows<PanelLayout::kNibblesMin>(panel_data, num_blocks, rows, num_rows, tile);
    case PanelLayout::kBytes:
      return integer_rows<PanelLayout::kBytes>(panel_data, num_blocks, rows, num_rows, tile);
    default:
      return integer_rows<PanelLayout::kBytesMin>(panel_data, num_blocks, rows, num_rows, tile);
  }
}

// Whole tiles of rows here, the rest as one without tile registers.
void integer_panel(PanelLayout layout, const std::byte* panel_data, std::int64_t num_blocks,
                   const ActivationBlock* rows, std::int64_t num_rows, float* tile) {
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
  static const LinearMicro micro{linear_micro_avx512().quantize_row, amx::integer_panel,
                                 linear_micro_avx512().float_panel};
  return micro;
}

}  // namespace perpend
