#pragma once

#include <algorithm>
#include <type_traits>

#include "perpend/kernels/cpu/row_conversion.h"
#include "perpend/kernels/cpu/tile_micro.h"
#include "perpend/kernels/cpu/vector_math.h"

// What happens to scores between the products, over a vector type and a way to write weights.
// Scores are [units, kUnit, kLanes] and vectors run over lanes, so that in a row sweep no maximum
// or sum ever crosses the lanes of a vector. Included by one source file for each instruction set.

namespace perpend {

template <class Vec, class Weights>
class SoftmaxLoops {
 public:
  using Real = typename Vec::Value;

  static void softmax(int dim, const TileUnits& units, Real scale, Real* scores, std::byte* weights,
                      const LaneState<Real>& state) {
    const Weights to(weights);
    for (int lane = 0; lane < tile::kLanes; lane += kGroup) {
      Vec base[kVecs];
      bool is_new = false;
      for (int v = 0; v < kVecs; ++v) {
        base[v] = Vec::load(state.base + lane + v * kWidth);
        is_new |= Vec::any_less(base[v], Vec::set1(kLowestBase));
      }
      Vec sum[kVecs];
      if (Weights::kInPlace || is_new ||
          !exponentiate(units, scale, scores + lane, base, to, lane, sum)) {
        move_bases(dim, units, scale, scores, lane, state, base);
        exponentiate(units, scale, scores + lane, base, to, lane, sum);
      }
      for (int v = 0; v < kVecs; ++v) {
        Real* row_sum = state.row_sum + lane + v * kWidth;
        (Vec::load(row_sum) + sum[v]).store(row_sum);
      }
    }
  }

  static void gradients(const TileUnits& units, const GradientStep<Real>& step) {
    const bool by_lane = step.lane_lse != nullptr;
    const bool capped = step.derivatives != nullptr;
    for (int u = 0; u < units.count; ++u) {
      if (by_lane) {
        capped ? unit_gradients<true, true>(units, u, step)
               : unit_gradients<true, false>(units, u, step);
      } else {
        capped ? unit_gradients<false, true>(units, u, step)
               : unit_gradients<false, false>(units, u, step);
      }
    }
  }

  static void change(const TileUnits& units, const LaneScoreChange<Real>& change, Real* scores) {
    const Vec log2e = Vec::set1(static_cast<Real>(1.4426950408889634));
    for (int u = 0; u < units.count; ++u) {
      for (int row = 0; row < units.num_rows[index(u)]; ++row) {
        for (int lane = 0; lane < tile::kLanes; lane += kWidth) {
          const int at = u * tile::kBlock + row * tile::kLanes + lane;
          Vec score = Vec::load(scores + at) * Vec::set1(change.scale);
          if (change.soft_cap != 0) score = cap(change, at, score);
          if (change.slopes != nullptr) {
            const Vec way = Vec::load(change.outer_places + lane) -
                            Vec::set1(change.inner_places[index(u)][row]);
            score = score - Vec::load(change.slopes + lane) * Vec::max(way, Vec::zero() - way);
          }
          (score * log2e).store(scores + at);
        }
      }
    }
  }

 private:
  static constexpr int kWidth = Vec::kWidth;
  static constexpr int kVecs = 2;  // enough to hide latencies
  static constexpr int kGroup = kVecs * kWidth;
  static constexpr Real kInfinity = std::numeric_limits<Real>::infinity();
  static constexpr Real kLowestBase = static_cast<Real>(-1e30);
  // The softmax is the same for any base. One that stands still saves the search for the largest
  // score and the rescaling, so it follows only where weights get large: scores kSlack above it
  // where they are looked at first, else sums of a batch above kLargestSum.
  static constexpr Real kSlack = 8;
  static constexpr Real kLargestSum = 65536;

  static constexpr std::size_t index(int u) { return static_cast<std::size_t>(u); }
  static constexpr int rounded_up(int rows) { return (rows + 1) / 2 * 2; }

  static Vec cap(const LaneScoreChange<Real>& change, int at, Vec score) {
    const Vec bent = tanh(score * Vec::set1(1 / change.soft_cap));
    if (change.derivatives != nullptr) {
      (Vec::set1(1) - bent * bent).store(change.derivatives + at);
    }
    return bent * Vec::set1(change.soft_cap);
  }

  // Largest scores of a group of lanes; scores that are not visible become -inf.
  static void find_tops(const TileUnits& units, Real* scores, int lane, Vec (&top)[kVecs]) {
    for (Vec& t : top) t = Vec::set1(-kInfinity);
    for (int u = 0; u < units.count; ++u) {
      Real* at = scores + u * tile::kBlock;
      const int num_rows = units.num_rows[index(u)];
      const std::uint32_t* bits = units.bits[index(u)];
      bits == nullptr ? plain_tops(num_rows, at, top) : masked_tops(num_rows, at, bits + lane, top);
    }
  }

  static void plain_tops(int num_rows, const Real* scores, Vec (&top)[kVecs]) {
    Vec other[kVecs];
    for (int v = 0; v < kVecs; ++v) other[v] = top[v];
    int row = 0;
    for (; row + 1 < num_rows; row += 2, scores += 2 * tile::kLanes) {
      for (int v = 0; v < kVecs; ++v) {
        top[v] = Vec::max(Vec::load(scores + v * kWidth), top[v]);
        other[v] = Vec::max(Vec::load(scores + tile::kLanes + v * kWidth), other[v]);
      }
    }
    for (int v = 0; v < kVecs; ++v) {
      top[v] = Vec::max(top[v], other[v]);
      if (row < num_rows) top[v] = Vec::max(top[v], Vec::load(scores + v * kWidth));
    }
  }

  static void masked_tops(int num_rows, Real* scores, const std::uint32_t* bits,
                          Vec (&top)[kVecs]) {
    typename Vec::Words words[kVecs];
    for (int v = 0; v < kVecs; ++v) words[v] = Vec::load_words(bits + v * kWidth);
    for (int row = 0; row < num_rows; ++row, scores += tile::kLanes) {
      for (int v = 0; v < kVecs; ++v) {
        const Vec score =
            Vec::select(words[v], row, Vec::load(scores + v * kWidth), Vec::set1(-kInfinity));
        score.store(scores + v * kWidth);
        top[v] = Vec::max(score, top[v]);
      }
    }
  }

  static Vec weight(Vec score, Real scale, Vec base) {
    return exp2<Weights::kExpDegree>(Vec::fma(score, Vec::set1(scale), Vec::zero() - base));
  }

  // Weights and their sums; tells whether these are small enough to go on from.
  static bool exponentiate(const TileUnits& units, Real scale, const Real* scores,
                           const Vec (&base)[kVecs], const Weights& weights, int lane,
                           Vec (&sum)[kVecs]) {
    Vec other[kVecs];
    for (int v = 0; v < kVecs; ++v) sum[v] = other[v] = Vec::zero();
    for (int u = 0; u < units.count; ++u) {
      const bool is_masked = !Weights::kInPlace && units.bits[index(u)] != nullptr;
      is_masked ? unit_weights<true>(units, u, scale, scores, base, weights, lane, sum, other)
                : unit_weights<false>(units, u, scale, scores, base, weights, lane, sum, other);
      fill_unit(u, units.num_rows[index(u)], lane, kGroup, weights);
    }
    bool is_large = false;
    for (int v = 0; v < kVecs; ++v) {
      sum[v] = sum[v] + other[v];
      is_large |= Vec::any_less(Vec::set1(kLargestSum), sum[v]);
    }
    return !is_large;
  }

  template <bool kMasked>
  static void unit_weights(const TileUnits& units, int u, Real scale, const Real* scores,
                           const Vec (&base)[kVecs], const Weights& weights, int lane,
                           Vec (&sum)[kVecs], Vec (&other)[kVecs]) {
    typename Vec::Words words[kVecs];
    if constexpr (kMasked) {
      for (int v = 0; v < kVecs; ++v) {
        words[v] = Vec::load_words(units.bits[index(u)] + lane + v * kWidth);
      }
    }
    const Real* at = scores + u * tile::kBlock;
    const auto weight_at = [&](int row, int v) {
      Vec score = Vec::load(at + row * tile::kLanes + v * kWidth);
      if constexpr (kMasked) score = Vec::select(words[v], row, score, Vec::set1(-kInfinity));
      return weight(score, scale, base[v]);
    };
    const int num_rows = units.num_rows[index(u)];
    int row = 0;
    for (; row + 1 < num_rows; row += 2) {
      for (int v = 0; v < kVecs; ++v) {
        const Vec first = weight_at(row, v);
        const Vec second = weight_at(row + 1, v);
        sum[v] = sum[v] + first;
        other[v] = other[v] + second;
        weights.store(u, row, lane + v * kWidth, first, second);
      }
    }
    for (int v = 0; row < num_rows && v < kVecs; ++v) {
      const Vec last = weight_at(row, v);
      sum[v] = sum[v] + last;
      weights.store(u, row, lane + v * kWidth, last, Vec::zero());
    }
  }

  // Zero weights for the rows that a clipped unit lacks, where products take whole units.
  static void fill_unit(int unit, int num_rows, int lane, int num_lanes, const Weights& weights) {
    if constexpr (Weights::kFillsUnits) {
      for (int row = rounded_up(num_rows); row < tile::kUnit; row += 2) {
        for (int i = 0; i < num_lanes; i += kWidth) {
          weights.store(unit, row, lane + i, Vec::zero(), Vec::zero());
        }
      }
    }
  }

  // Moves the bases of the lanes whose scores rise too far above them to their largest scores, and
  // rescales what was summed so far.
  static void move_bases(int dim, const TileUnits& units, Real scale, Real* scores, int lane,
                         const LaneState<Real>& state, Vec (&base)[kVecs]) {
    Vec top[kVecs];
    find_tops(units, scores + lane, lane, top);
    Vec shrink[kVecs];
    bool moves = false;
    for (int v = 0; v < kVecs; ++v) {
      const Vec old_base = base[v];
      const Vec limit = old_base + Vec::set1(kSlack);
      top[v] = top[v] * Vec::set1(scale);
      moves |= Vec::any_less(limit, top[v]);
      base[v] = Vec::where_less(limit, top[v], top[v], old_base);
      base[v].store(state.base + lane + v * kWidth);
      // A row that has seen nothing keeps -inf as its base; any finite one gives it zeros.
      base[v] = Vec::max(base[v], Vec::set1(kLowestBase));
      shrink[v] = exp2(Vec::max(old_base, Vec::set1(kLowestBase)) - base[v]);
    }
    if (moves) rescale(dim, shrink, state.row_sum + lane, state.sums + lane);
  }

  static void rescale(int dim, const Vec (&shrink)[kVecs], Real* row_sum, Real* sums) {
    for (int v = 0; v < kVecs; ++v) {
      (Vec::load(row_sum + v * kWidth) * shrink[v]).store(row_sum + v * kWidth);
    }
    for (int d = 0; d < dim; ++d, sums += tile::kLanes) {
      for (int v = 0; v < kVecs; ++v) {
        (Vec::load(sums + v * kWidth) * shrink[v]).store(sums + v * kWidth);
      }
    }
  }

  struct Gradient {
    Vec probability;
    Vec gradient;
  };

  template <bool kCapped>
  static Gradient gradient_at(const GradientStep<Real>& step, int at, Vec score, Vec lse,
                              Vec delta) {
    const Vec p =
        exp2<Weights::kExpDegree>(Vec::fma(score, Vec::set1(step.scale), Vec::zero() - lse));
    Vec ds = p * (Vec::load(step.products + at) - delta);
    if constexpr (kCapped) ds = ds * Vec::load(step.derivatives + at);
    return {p, ds};
  }

  template <bool kByLane, bool kCapped>
  static void unit_gradients(const TileUnits& units, int u, const GradientStep<Real>& step) {
    const Weights gradients(step.gradients);
    const Weights probabilities(step.probabilities);
    const int num_rows = units.num_rows[index(u)];
    const std::uint32_t* bits = units.bits[index(u)];
    for (int lane = 0; lane < tile::kLanes; lane += kWidth) {
      typename Vec::Words words{};
      if (bits != nullptr) words = Vec::load_words(bits + lane);
      Vec lse = Vec::zero();
      Vec delta = Vec::zero();
      if constexpr (kByLane) {
        lse = Vec::load(step.lane_lse + lane);
        delta = Vec::load(step.lane_delta + lane);
      }
      const auto row_gradient = [&](int row) {
        const int at = u * tile::kBlock + row * tile::kLanes + lane;
        Vec score = Vec::load(step.scores + at);
        if (bits != nullptr) score = Vec::select(words, row, score, Vec::set1(-kInfinity));
        if constexpr (!kByLane) {
          lse = Vec::set1(step.inner_lse[index(u)][row]);
          delta = Vec::set1(step.inner_delta[index(u)][row]);
        }
        return gradient_at<kCapped>(step, at, score, lse, delta);
      };
      for (int row = 0; row < num_rows; row += 2) {
        const Gradient first = row_gradient(row);
        const Gradient second =
            row + 1 < num_rows ? row_gradient(row + 1) : Gradient{Vec::zero(), Vec::zero()};
        gradients.store(u, row, lane, first.gradient, second.gradient);
        if constexpr (!kByLane) {
          probabilities.store(u, row, lane, first.probability, second.probability);
        }
      }
      fill_unit(u, num_rows, lane, kWidth, gradients);
      if constexpr (!kByLane) fill_unit(u, num_rows, lane, kWidth, probabilities);
    }
  }
};

// [dim, kLanes] times a factor a lane, as [kLanes, dim]; dim a multiple of kWidth.
template <class Vec>
void lanes_to_rows(int dim, const typename Vec::Value* sums, const typename Vec::Value* factors,
                   typename Vec::Value* rows) {
  constexpr int kWidth = Vec::kWidth;
  alignas(64) typename Vec::Value block[kWidth * kWidth];
  for (int lane = 0; lane < tile::kLanes; lane += kWidth) {
    const Vec factor = Vec::load(factors + lane);
    for (int d = 0; d < dim; d += kWidth) {
      for (int i = 0; i < kWidth; ++i) {
        (Vec::load(sums + (d + i) * tile::kLanes + lane) * factor).store(block + i * kWidth);
      }
      Vec::transpose(block, kWidth, rows + lane * dim + d, dim);
    }
  }
}

template <class Vec>
typename Vec::Value dot_rows(DType a_dtype, const std::byte* a, DType b_dtype, const std::byte* b,
                             int dim) {
  using Value = typename Vec::Value;
  alignas(64) Value x[tile::kMaxDim];
  alignas(64) Value y[tile::kMaxDim];
  const int padded = (dim + Vec::kWidth - 1) / Vec::kWidth * Vec::kWidth;
  load_values<Vec>(a_dtype, a, dim, padded, x);
  load_values<Vec>(b_dtype, b, dim, padded, y);
  Vec sum = Vec::zero();
  for (int d = 0; d < padded; d += Vec::kWidth) {
    sum = Vec::fma(Vec::load(x + d), Vec::load(y + d), sum);
  }
  return Vec::sum(sum);
}

}  // namespace perpend
