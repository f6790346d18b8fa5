#pragma once

#include <cstring>

#include "perpend/kernels/cpu/gradient_loops.h"
#include "perpend/kernels/cpu/row_conversion.h"
#include "perpend/kernels/cpu/softmax_loops.h"
#include "perpend/kernels/cpu/tile_micro.h"

// Panels and products of floats or doubles over a vector type; included by one source file for
// each instruction set. X is read by broadcasts, so that one panel of plain rows serves for X and
// X^T alike; Y is [dim, kLanes].

namespace perpend {

template <class Vec>
class FloatTiles {
 public:
  using Real = typename Vec::Value;

  // Panels are padded to whole vectors of every instruction set.
  static constexpr int kDimMultiple = 16;

  static void pack_unit(const RowPointers& pointers, std::byte* rows, std::byte* /*columns*/) {
    fill_rows(pointers, reinterpret_cast<Real*>(rows));
  }

  static void pack_lanes(const RowPointers& rows, std::byte* panel) {
    constexpr int kWidth = Vec::kWidth;
    alignas(64) Real staging[tile::kLanes * tile::kMaxDim];
    fill_rows(rows, staging);
    const int stride = padded(rows.dim);
    auto* to = reinterpret_cast<Real*>(panel);
    for (int lane = 0; lane < tile::kLanes; lane += kWidth) {
      for (int d = 0; d < stride; d += kWidth) {
        Vec::transpose(staging + lane * stride + d, stride, to + d * tile::kLanes + lane,
                       tile::kLanes);
      }
    }
  }

  static void scores(int dim, const ScoreStep<Real>& step) {
    const int stride = padded(dim);
    for (int u = 0; u < step.units.count; ++u) {
      const auto* x = real(step.rows[static_cast<std::size_t>(u)]);
      const int num_rows = step.units.num_rows[static_cast<std::size_t>(u)];
      for (int lane = 0; lane < tile::kLanes; lane += kBlockLanes) {
        for (int row = 0; row < num_rows; row += kBlockRows) {
          scores_block(dim, x + row * stride, stride, real(step.lanes) + lane,
                       step.scores + u * tile::kBlock + row * tile::kLanes + lane);
        }
      }
    }
  }

  static void accumulate(int dim, const TileUnits& units, const UnitPanels& columns,
                         const std::byte* weights, Real* sums) {
    const int stride = padded(dim);
    for (int lane = 0; lane < tile::kLanes; lane += kBlockLanes) {
      for (int d = 0; d < stride; d += kBlockRows) {
        accumulate_block(units, columns, d, stride, real(weights) + lane,
                         sums + d * tile::kLanes + lane);
      }
    }
  }

  static void store_lanes(const Real* sums, const Real* factors, const RowPointers& rows) {
    alignas(64) Real staging[tile::kLanes * tile::kMaxDim];
    lanes_to_rows<Vec>(padded(rows.dim), sums, factors, staging);
    for (int lane = 0; lane < tile::kLanes; ++lane) {
      std::byte* to = rows.rows[static_cast<std::size_t>(lane)];
      if (to != nullptr)
        store_values<Vec>(rows.dtype, staging + lane * padded(rows.dim), rows.dim, to);
    }
  }

 private:
  static constexpr int kBlockRows = Vec::kBlockRows;
  static constexpr int kBlockVecs = Vec::kBlockVecs;
  static constexpr int kBlockLanes = kBlockVecs * Vec::kWidth;

  static constexpr int padded(int dim) {
    return (dim + kDimMultiple - 1) / kDimMultiple * kDimMultiple;
  }
  static const Real* real(const std::byte* panel) { return reinterpret_cast<const Real*>(panel); }

  static void fill_rows(const RowPointers& rows, Real* to) {
    const int stride = padded(rows.dim);
    for (const std::byte* row : rows.rows) {
      if (row == nullptr) {
        std::fill_n(to, stride, Real{0});
      } else {
        load_values<Vec>(rows.dtype, row, rows.dim, stride, to);
      }
      to += stride;
    }
  }

  // kBlockRows inner rows by kBlockVecs vectors of outer rows, summed over the head dimension.
  static void scores_block(int dim, const Real* x, int stride, const Real* y, Real* scores) {
    Vec sums[kBlockRows][kBlockVecs];
    for (auto& row : sums) {
      for (auto& sum : row) sum = Vec::zero();
    }
    for (int d = 0; d < dim; ++d, y += tile::kLanes) {
      Vec lanes[kBlockVecs];
      for (int v = 0; v < kBlockVecs; ++v) lanes[v] = Vec::load(y + v * Vec::kWidth);
      for (int row = 0; row < kBlockRows; ++row) {
        const Vec value = Vec::set1(x[row * stride + d]);
        for (int v = 0; v < kBlockVecs; ++v) {
          sums[row][v] = Vec::fma(value, lanes[v], sums[row][v]);
        }
      }
    }
    for (int row = 0; row < kBlockRows; ++row) {
      for (int v = 0; v < kBlockVecs; ++v) {
        sums[row][v].store(scores + row * tile::kLanes + v * Vec::kWidth);
      }
    }
  }

  // kBlockRows values of the head dimension from `d` on, summed over all inner rows.
  static void accumulate_block(const TileUnits& units, const UnitPanels& columns, int d, int stride,
                               const Real* weights, Real* to) {
    Vec sums[kBlockRows][kBlockVecs];
    for (int i = 0; i < kBlockRows; ++i) {
      for (int v = 0; v < kBlockVecs; ++v) {
        sums[i][v] = Vec::load(to + i * tile::kLanes + v * Vec::kWidth);
      }
    }
    for (int u = 0; u < units.count; ++u) {
      const Real* x = real(columns[static_cast<std::size_t>(u)]) + d;
      const Real* w = weights + u * tile::kBlock;
      const int num_rows = units.num_rows[static_cast<std::size_t>(u)];
      for (int row = 0; row < num_rows; ++row, x += stride, w += tile::kLanes) {
        Vec lanes[kBlockVecs];
        for (int v = 0; v < kBlockVecs; ++v) lanes[v] = Vec::load(w + v * Vec::kWidth);
        for (int i = 0; i < kBlockRows; ++i) {
          const Vec value = Vec::set1(x[i]);
          for (int v = 0; v < kBlockVecs; ++v) sums[i][v] = Vec::fma(value, lanes[v], sums[i][v]);
        }
      }
    }
    for (int i = 0; i < kBlockRows; ++i) {
      for (int v = 0; v < kBlockVecs; ++v) {
        sums[i][v].store(to + i * tile::kLanes + v * Vec::kWidth);
      }
    }
  }
};

// Weights that stay floats, where the scores were.
template <class Vec>
struct FloatWeights {
  using Real = typename Vec::Value;
  static constexpr int kExpDegree = 5;
  static constexpr bool kFillsUnits = false;
  static constexpr bool kInPlace = true;

  explicit FloatWeights(std::byte* to) : weights(reinterpret_cast<Real*>(to)) {}
  // Weights of inner rows `row` (even) and row + 1 of a unit.
  void store(int unit, int row, int lane, Vec first, Vec second) const {
    Real* at = weights + unit * tile::kBlock + row * tile::kLanes + lane;
    first.store(at);
    second.store(at + tile::kLanes);
  }
  Real* weights;
};

template <class Vec>
TileMicro<typename Vec::Value> make_float_tile_micro() {
  using Tiles = FloatTiles<Vec>;
  using Softmax = SoftmaxLoops<Vec, FloatWeights<Vec>>;
  return {{.dim_multiple = Tiles::kDimMultiple,
           .element_bytes = sizeof(typename Vec::Value),
           .transposes = false,
           .pack_unit = Tiles::pack_unit,
           .pack_lanes = Tiles::pack_lanes},
          /*weights_in_place=*/true,
          /*acquire_registers=*/nullptr,
          /*release_registers=*/nullptr,
          Tiles::scores,
          Tiles::accumulate,
          Softmax::change,
          Softmax::softmax,
          GradientLoops<Vec, FloatWeights<Vec>>::gradients,
          /*softmax_beside_scores=*/nullptr,
          /*gradients_beside_scores=*/nullptr,
          Tiles::store_lanes,
          dot_rows<Vec>};
}

}  // namespace perpend
