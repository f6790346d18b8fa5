#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "perpend/core/dtype.h"

// The innermost loops of attention over many rows, forward and backward.
//
// The outer rows of a sweep (queries in a row sweep, keys in a column sweep) lie across vectors,
// kLanes at a time, and the inner rows come in *units* of kUnit. Scores are kept [inner, outer], so
// that the softmax of a query never crosses the lanes of a vector in a row sweep, and all products
// are of two kinds:
//   scores      S[inner, outer] = X[inner, dim] Y[dim, outer]          (X = k, Y = q^T)
//   accumulate  A[dim, outer] += X^T[dim, inner] W[inner, outer]       (X = v, W = probabilities)
// Panels hold X and Y as the products like to read them; the element type of panels is float,
// double or bf16, that of scores and sums (`Real`) float or double.

namespace perpend {

namespace tile {
constexpr int kLanes = 32;    // outer rows that are handled together
constexpr int kUnit = 32;     // inner rows of a unit
constexpr int kMaxUnits = 8;  // units of a step
constexpr int kMaxDim = 256;
constexpr int kBlock = kUnit * kLanes;  // scores of a unit
}  // namespace tile

// The units of one step for one block of lanes.
struct TileUnits {
  int count = 0;
  std::array<int, tile::kMaxUnits> num_rows;  // inner rows that exist, the first ones of the unit
  // [kLanes] words a unit, bit r of word l is 1 when inner row r is visible to lane l; null: all.
  std::array<const std::uint32_t*, tile::kMaxUnits> bits;
};

// The panels of one operand, a pointer for each unit.
using UnitPanels = std::array<const std::byte*, tile::kMaxUnits>;

// The online softmax of one block of lanes: weights are 2^(score - base), and after all steps
// sums / row_sum is the output.
template <class Real>
struct LaneState {
  Real* base;     // [kLanes], base 2; -inf before the first visible score
  Real* row_sum;  // [kLanes]
  Real* sums;     // [dim, kLanes]
};

// What changes scores before the softmax (see ScoreChange), in the coordinates of a block.
template <class Real>
struct LaneScoreChange {
  Real scale;                                             // to natural units
  Real soft_cap;                                          // 0: none
  const Real* slopes;                                     // [kLanes], null: no bias
  const Real* outer_places;                               // [kLanes] positions
  std::array<const Real*, tile::kMaxUnits> inner_places;  // [kUnit] each
  // Out, where soft_cap != 0 and not null: the derivative of a changed score by the score,
  // [units, kUnit, kLanes].
  Real* derivatives;
};

// Operands of scores().
template <class Real>
struct ScoreStep {
  TileUnits units;
  UnitPanels rows;
  const std::byte* lanes;
  Real* scores;  // out
};

// Scores of one block on their way to weights of the second product.
template <class Real>
struct SoftmaxStep {
  TileUnits units;
  Real scale;          // to base 2
  Real* scores;        // destroyed
  std::byte* weights;  // out
  LaneState<Real> state;
};

// The scores of one block on their way to gradients.
template <class Real>
struct GradientStep {
  TileUnits units;
  Real scale;                // to base 2
  Real* scores;              // [units, kUnit, kLanes] q k^T
  Real* products;            // likewise d_o v^T
  const Real* derivatives;   // likewise, or null
  std::byte* probabilities;  // out, weights of the second product; null: not wanted
  std::byte* gradients;      // out, likewise: gradients of scores
  // logsumexp (base 2, +inf for rows without a key) and delta of the queries: of the lanes in a row
  // sweep, else of the inner rows of each unit.
  const Real* lane_lse;
  const Real* lane_delta;
  std::array<const Real*, tile::kMaxUnits> inner_lse;
  std::array<const Real*, tile::kMaxUnits> inner_delta;
};

// Rows in the caller's memory, of one unit or one block of lanes; null for rows that do not exist,
// which are read as zeros.
struct RowPointers {
  DType dtype;
  int dim;
  std::array<std::byte*, tile::kLanes> rows;
};

// How panels are made.
struct PanelMicro {
  int dim_multiple;   // the head dimension of panels is padded to a multiple of it
  int element_bytes;  // of panels, and of weights that are not in place
  bool transposes;    // X^T is a panel of its own; else that of X serves for both
  // One unit of inner rows as X (`rows`) and as X^T (`columns`, only where transposes), kUnit *
  // padded dim elements each; null for what is not wanted.
  void (*pack_unit)(const RowPointers& pointers, std::byte* rows, std::byte* columns);
  // One block of outer rows as Y, kLanes * padded dim elements.
  void (*pack_lanes)(const RowPointers& rows, std::byte* panel);

  int padded(int dim) const { return (dim + dim_multiple - 1) / dim_multiple * dim_multiple; }
  std::size_t panel_bytes(int dim) const {
    return std::size_t{tile::kUnit} * static_cast<std::size_t>(padded(dim)) *
           static_cast<std::size_t>(element_bytes);
  }
  // Weights of so many units.
  std::size_t weight_bytes(int num_units) const {
    return std::size_t{tile::kBlock} * static_cast<std::size_t>(num_units) *
           static_cast<std::size_t>(element_bytes);
  }
};
static_assert(tile::kUnit == tile::kLanes, "one size of panel serves for both");

template <class Real>
struct TileMicro : PanelMicro {
  bool weights_in_place;  // weights must lie where the scores are
  // Around all other calls on one thread: registers and modes that are there on demand only; may be
  // null.
  void (*acquire_registers)();
  void (*release_registers)();
  void (*scores)(int dim, const ScoreStep<Real>& step);
  // sums is [padded dim, kLanes].
  void (*accumulate)(int dim, const TileUnits& units, const UnitPanels& columns,
                     const std::byte* weights, Real* sums);
  // Scores become changed scores, to base 2.
  void (*change)(const TileUnits& units, const LaneScoreChange<Real>& change, Real* scores);
  // Scores become weights, and what came before is rescaled.
  void (*softmax)(int dim, const SoftmaxStep<Real>& step);
  void (*gradients)(const GradientStep<Real>& step);
  // The same with scores of later steps made meanwhile, for processors that have one unit for
  // products and another for vectors; null where it would gain nothing.
  void (*softmax_beside_scores)(int dim, const SoftmaxStep<Real>& step,
                                const ScoreStep<Real>& later);
  void (*gradients_beside_scores)(int dim, const GradientStep<Real>& step,
                                  std::span<const ScoreStep<Real>> later);
  // rows[lane] = sums[.., lane] * factors[lane] for the rows that are not null.
  void (*store_lanes)(const Real* sums, const Real* factors, const RowPointers& rows);
  // Sum of the products of two rows.
  Real (*dot)(DType a_dtype, const std::byte* a, DType b_dtype, const std::byte* b, int dim);
};

const TileMicro<float>& tile_micro_scalar();
const TileMicro<float>& tile_micro_avx2();
const TileMicro<float>& tile_micro_avx512();
const TileMicro<float>& tile_micro_avx512bf16();  // bf16 panels
const TileMicro<float>& tile_micro_amx();         // bf16 panels
const TileMicro<float>& tile_micro_amx_f32();     // f32 in three terms of bf16
const TileMicro<double>& tile_micro_f64();

}  // namespace perpend
