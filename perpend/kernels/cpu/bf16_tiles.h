#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include <immintrin.h>

#include "perpend/kernels/cpu/bf16_product.h"
#include "perpend/kernels/cpu/gradient_loops.h"
#include "perpend/kernels/cpu/simd_avx512.h"
#include "perpend/kernels/cpu/softmax_loops.h"
#include "perpend/kernels/cpu/tile_micro.h"

// Panels of bf16 pairs and what stands between their products. X is [dim / 32] left blocks (see
// bf16_product.h), X^T likewise with head dimensions as rows, Y [dim / 32] right blocks, and
// weights are a right block a unit.
//
// Values are sums of kTerms bf16 values, each the rest that the former ones leave, and panels hold
// one term after another. One term is bf16 itself; three are f32 exactly, and the six products of
// terms that reach 2^-16 of the largest are an f32 product within its own rounding.

namespace perpend::bf16 {

constexpr int padded(int dim) { return (dim + 31) / 32 * 32; }

inline __m512 widen(__m256i values) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(values), 16));
}

// 32 rows in terms, [kTerms][32][padded dim], with zeros beyond their ends.
template <int kTerms>
class Staging {
 public:
  explicit Staging(const RowPointers& rows) : stride_(padded(rows.dim)) {
    const bool in_place = kTerms == 1 && rows.dtype == DType::kBF16 && rows.dim == stride_;
    for (std::size_t row = 0; row < rows.rows.size(); ++row) {
      std::uint16_t* to = terms_ + static_cast<int>(row) * stride_;
      rows_[row] = to;
      if (rows.rows[row] == nullptr) {
        for (int term = 0; term < kTerms; ++term) {
          std::memset(to + term * term_size(), 0, static_cast<std::size_t>(stride_) * 2);
        }
      } else if (in_place) {
        rows_[row] = reinterpret_cast<const std::uint16_t*>(rows.rows[row]);
      } else if (kTerms == 1 && rows.dtype == DType::kBF16) {
        const auto dim = static_cast<std::size_t>(rows.dim);
        std::memcpy(to, rows.rows[row], dim * 2);
        std::memset(to + dim, 0, (static_cast<std::size_t>(stride_) - dim) * 2);
      } else {
        split_row(rows.dtype, rows.rows[row], rows.dim, to);
      }
    }
  }

  const std::uint16_t* row(int term, int index) const {
    return rows_[static_cast<std::size_t>(index)] + term * term_size();
  }
  int num_values() const { return stride_; }  // of a row

 private:
  void split_row(DType dtype, const std::byte* row, int dim, std::uint16_t* to) const {
    alignas(64) float values[tile::kMaxDim];
    load_values<avx512::Vec>(dtype, row, dim, stride_, values);
    for (int d = 0; d < stride_; d += 16) {
      __m512 rest = _mm512_load_ps(values + d);
      for (int term = 0; term < kTerms; ++term) {
        const auto part = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(rest));
        _mm256_store_si256(reinterpret_cast<__m256i*>(to + term * term_size() + d), part);
        rest = _mm512_sub_ps(rest, widen(part));
      }
    }
  }

  int term_size() const { return tile::kUnit * stride_; }

  int stride_;
  std::array<const std::uint16_t*, tile::kUnit> rows_;  // those of the caller where they will do
  alignas(64) std::uint16_t terms_[kTerms * tile::kUnit * tile::kMaxDim];
};

template <int kTerms>
void stage_to_rows(const Staging<kTerms>& staging, std::byte* panel) {
  for (int term = 0; term < kTerms; ++term) {
    for (int d = 0; d < staging.num_values(); d += 32) {
      for (int row = 0; row < tile::kUnit; ++row, panel += 64) {
        _mm512_store_si512(panel, _mm512_loadu_si512(staging.row(term, row) + d));
      }
    }
  }
}

// Pairs of rows are zipped to words first, so that a transposition of words gives pairs of rows.
template <int kTerms>
void stage_to_columns(const Staging<kTerms>& staging, std::byte* panel) {
  const auto load = [](const std::uint16_t* from) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  };
  for (int term = 0; term < kTerms; ++term) {
    for (int d = 0; d < staging.num_values(); d += 16, panel += 16 * 64) {
      avx512::transpose_words(
          [&](int pair) {
            const __m512i even = load(staging.row(term, 2 * pair) + d);
            const __m512i odd = load(staging.row(term, 2 * pair + 1) + d);
            return _mm512_or_si512(even, _mm512_slli_epi32(odd, 16));
          },
          [&](int j, __m512i column) { _mm512_store_si512(panel + j * 64, column); });
    }
  }
}

template <int kTerms>
void pack_unit(const RowPointers& pointers, std::byte* rows, std::byte* columns) {
  const Staging<kTerms> staging(pointers);
  if (rows != nullptr) stage_to_rows(staging, rows);
  if (columns != nullptr) stage_to_columns(staging, columns);
}

template <int kTerms>
void pack_lanes(const RowPointers& rows, std::byte* panel) {
  const Staging<kTerms> staging(rows);
  for (int term = 0; term < kTerms; ++term) {
    for (int d = 0; d < staging.num_values(); d += 32, panel += kBlockBytes) {
      for (int lane = 0; lane < tile::kLanes; lane += 16) {
        avx512::transpose_words(
            [&](int i) { return _mm512_loadu_si512(staging.row(term, lane + i) + d); },
            [&](int j, __m512i column) {
              _mm512_store_si512(panel + (j * tile::kLanes + lane) * 4, column);
            });
      }
    }
  }
}

// The first `count` of 16 values.
[[gnu::always_inline]] inline void store_part(DType dtype, __m512 values, int count,
                                              std::byte* to) {
  const auto wanted = static_cast<__mmask16>((std::uint32_t{1} << count) - 1);
  if (dtype == DType::kF32) return _mm512_mask_storeu_ps(to, wanted, values);
  const __m256i halves = dtype == DType::kF16
                             ? _mm512_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT)
                             : reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values));
  _mm256_mask_storeu_epi16(to, wanted, halves);
}

inline void store_lanes(const float* sums, const float* factors, const RowPointers& rows) {
  constexpr int kWidth = avx512::Vec::kWidth;
  const std::size_t bytes = size_of(rows.dtype);
  for (int lane = 0; lane < tile::kLanes; lane += kWidth) {
    const __m512 factor = _mm512_load_ps(factors + lane);
    std::byte* const* lanes = rows.rows.data() + lane;
    for (int d = 0; d < rows.dim; d += kWidth) {
      const int count = std::min(kWidth, rows.dim - d);
      avx512::transpose_words(
          [&](int i) {
            const float* from = sums + (d + i) * tile::kLanes + lane;
            return _mm512_castps_si512(_mm512_mul_ps(_mm512_loadu_ps(from), factor));
          },
          [&](int i, __m512i row) {
            std::byte* to = lanes[i];
            if (to == nullptr) return;
            store_part(rows.dtype, _mm512_castsi512_ps(row), count,
                       to + static_cast<std::size_t>(d) * bytes);
          });
    }
  }
}

// Weights as right blocks, kTerms of them a unit.
template <int kTerms>
struct PairWeights {
  static constexpr int kExpDegree = kTerms == 1 ? 4 : 5;
  static constexpr bool kFillsUnits = true;
  static constexpr bool kInPlace = false;

  explicit PairWeights(std::byte* to) : weights(to) {}
  void store(int unit, int row, int lane, avx512::Vec first, avx512::Vec second) const {
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    std::byte* to = weights + unit * kTerms * kBlockBytes + (row / 2 * tile::kLanes + lane) * 4;
    for (int term = 0; term < kTerms; ++term, to += kBlockBytes) {
      const auto both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second.value, first.value));
      _mm512_store_si512(to, _mm512_permutexvar_epi16(order, both));
      first.value = _mm512_sub_ps(first.value, widen(_mm512_castsi512_si256(both)));
      second.value = _mm512_sub_ps(second.value, widen(_mm512_extracti64x4_epi64(both, 1)));
    }
  }
  std::byte* weights;
};

// Which terms of the left and the right operand are multiplied, in an order in which one of the two
// is always at hand.
struct TermPair {
  int left;
  int right;
};
template <int kTerms>
constexpr auto term_pairs() {
  if constexpr (kTerms == 1) {
    return std::array{TermPair{0, 0}};
  } else {
    static_assert(kTerms == 3);
    return std::array{TermPair{2, 0}, TermPair{1, 0}, TermPair{1, 1},
                      TermPair{0, 1}, TermPair{0, 0}, TermPair{0, 2}};
  }
}

// Products of one call, put together before they run.
template <int kTerms>
class ProductList {
 public:
  static constexpr auto kPairs = term_pairs<kTerms>();

  // Of panels of `blocks` blocks a term; `step` is the place of a block among them.
  void add_block(const std::byte* left, int left_blocks, int left_step, const std::byte* right,
                 int right_blocks, int right_step) {
    for (const TermPair pair : kPairs) {
      left_[size_] = left + (pair.left * left_blocks + left_step) * kBlockBytes;
      right_[size_++] = right + (pair.right * right_blocks + right_step) * kBlockBytes;
    }
  }
  // Ends a product: of the blocks since the last end.
  void finish(float* sums) {
    BlockProduct& product = products_[count_++];
    product.left = std::span(left_).subspan(begin_, size_ - begin_);
    product.right = std::span(right_).subspan(begin_, size_ - begin_);
    product.sums = sums;
    begin_ = size_;
  }
  std::span<const BlockProduct> products() const { return std::span(products_).first(count_); }
  int num_blocks() const { return static_cast<int>(size_); }

 private:
  static constexpr std::size_t kMaxSteps = 2;  // of scores in one call
  static constexpr std::size_t kMaxProducts =
      std::max<std::size_t>(kMaxSteps * tile::kMaxUnits, tile::kMaxDim / 32);
  static constexpr std::size_t kMaxBlocks =
      kPairs.size() * kMaxSteps * tile::kMaxUnits * tile::kMaxDim / 32;

  // Filled before they are read, and too large to be cleared at each call.
  std::array<const std::byte*, kMaxBlocks> left_;
  std::array<const std::byte*, kMaxBlocks> right_;
  std::array<BlockProduct, kMaxProducts> products_;
  std::size_t size_ = 0;
  std::size_t begin_ = 0;
  std::size_t count_ = 0;
};

// Products::run(products, add, beside) does products one after another, none of which reads the
// sums of another, and may tell beside() as often as it likes that time has passed;
// Products::kOverlaps tells that vectors could have worked in that time.
template <class Products, int kTerms>
struct Tiles {
  using Softmax = SoftmaxLoops<avx512::Vec, PairWeights<kTerms>>;
  using Gradients = GradientLoops<avx512::Vec, PairWeights<kTerms>>;

  static void add_scores(int dim, const ScoreStep<float>& step, ProductList<kTerms>& list) {
    const int num_blocks = padded(dim) / 32;
    for (int u = 0; u < step.units.count; ++u) {
      for (int i = 0; i < num_blocks; ++i) {
        list.add_block(step.rows[static_cast<std::size_t>(u)], num_blocks, i, step.lanes,
                       num_blocks, i);
      }
      list.finish(step.scores + u * tile::kBlock);
    }
  }

  static void scores(int dim, const ScoreStep<float>& step) {
    ProductList<kTerms> list;
    add_scores(dim, step, list);
    Products::run(list.products(), false, [] {});
  }

  static void accumulate(int dim, const TileUnits& units, const UnitPanels& columns,
                         const std::byte* weights, float* sums) {
    const int num_blocks = padded(dim) / 32;
    ProductList<kTerms> list;
    for (int i = 0; i < num_blocks; ++i) {
      for (int u = 0; u < units.count; ++u) {
        list.add_block(columns[static_cast<std::size_t>(u)], num_blocks, i,
                       weights + u * kTerms * kBlockBytes, 1, 0);
      }
      list.finish(sums + i * tile::kBlock);
    }
    Products::run(list.products(), true, [] {});
  }

  static void softmax_beside_scores(int dim, const SoftmaxStep<float>& step,
                                    const ScoreStep<float>& later) {
    static_assert(Softmax::Run::kLanes == tile::kLanes, "one run, so the products are done once");
    ProductList<kTerms> list;
    add_scores(dim, later, list);
    Softmax::softmax_beside(dim, step, [&](auto& run) { run_beside(list, run); });
  }

  static void gradients_beside_scores(int dim, const GradientStep<float>& step,
                                      std::span<const ScoreStep<float>> later) {
    ProductList<kTerms> list;
    for (const ScoreStep<float>& scores : later) add_scores(dim, scores, list);
    Gradients::gradients_beside(step, [&](auto& run) { run_beside(list, run); });
  }

  // Spreads the steps of a run evenly over the products.
  template <class Run>
  [[gnu::always_inline]] static void run_beside(const ProductList<kTerms>& list, Run& run) {
    const int num_steps = run.num_steps();
    const int num_ticks = list.num_blocks() * Products::kTicksOfABlock;
    int due = 0;
    Products::run(
        list.products(), false, [&]() __attribute__((always_inline)) {
          for (due += num_steps; due >= num_ticks && !run.is_done(); due -= num_ticks)
            run.advance();
        });
  }
};

template <class Products, int kTerms>
TileMicro<float> make_tile_micro(void (*acquire)(), void (*release)()) {
  using T = Tiles<Products, kTerms>;
  TileMicro<float> micro{{.dim_multiple = 32,
                          .element_bytes = 2 * kTerms,
                          .transposes = true,
                          .pack_unit = pack_unit<kTerms>,
                          .pack_lanes = pack_lanes<kTerms>},
                         /*weights_in_place=*/false,
                         acquire,
                         release,
                         T::scores,
                         T::accumulate,
                         T::Softmax::change,
                         T::Softmax::softmax,
                         T::Gradients::gradients,
                         /*softmax_beside_scores=*/nullptr,
                         /*gradients_beside_scores=*/nullptr,
                         store_lanes,
                         dot_rows<avx512::Vec>};
  // While tiles are multiplied, vectors have one port less. With one term the vectors have more to
  // do than the tiles, and that costs more than the overlap brings.
  if constexpr (Products::kOverlaps && kTerms > 1) {
    micro.softmax_beside_scores = T::softmax_beside_scores;
    micro.gradients_beside_scores = T::gradients_beside_scores;
  }
  return micro;
}

}  // namespace perpend::bf16
