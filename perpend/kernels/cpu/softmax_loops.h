#pragma once

#include <algorithm>
#include <type_traits>

#include "perpend/kernels/cpu/row_conversion.h"
#include "perpend/kernels/cpu/tile_micro.h"
#include "perpend/kernels/cpu/vector_math.h"

// What happens to scores between the products, over a vector type and a way to write weights.
// Scores are [units, kUnit, kLanes] and vectors run over lanes, so that in a row sweep no maximum
// or sum ever crosses the lanes of a vector. Included by one source file for each instruction set.
//
// Work that may be done beside products is a *run*: an object that makes its weights a pair of
// inner rows at a time, whenever it is told to.

namespace perpend {

// Zero weights for the rows that a clipped unit lacks, where products take whole units.
template <class Vec, class Weights>
void fill_unit(int unit, int num_rows, int lane, int num_lanes, const Weights& weights) {
  if constexpr (Weights::kFillsUnits) {
    for (int row = (num_rows + 1) / 2 * 2; row < tile::kUnit; row += 2) {
      for (int i = 0; i < num_lanes; i += Vec::kWidth) {
        weights.store(unit, row, lane + i, Vec::zero(), Vec::zero());
      }
    }
  }
}

// Weights of a group of lanes relative to a base, and their sums.
template <class Vec, class Weights>
class WeightRun {
 public:
  using Real = typename Vec::Value;
  static constexpr int kVecs = 2;  // enough to hide latencies
  static constexpr int kLanes = kVecs * Vec::kWidth;

  WeightRun(const SoftmaxStep<Real>& step, int lane, const Vec (&base)[kVecs])
      : step_(step), weights_(step.weights), scale_(Vec::set1(step.scale)), lane_(lane) {
    for (int v = 0; v < kVecs; ++v) {
      base_[v] = base[v];
      sum_[v] = other_[v] = Vec::zero();
    }
    enter_unit();
  }

  // Of all pairs of rows.
  int num_steps() const {
    int count = 0;
    for (int u = 0; u < step_.units.count; ++u) count += (num_rows_of(u) + 1) / 2;
    return count;
  }
  bool is_done() const { return unit_ == step_.units.count; }
  [[gnu::always_inline]] void advance() {
    is_masked_ ? make_pair<true>() : make_pair<false>();
    row_ += 2;
    if (row_ < num_rows_) return;
    fill_unit<Vec>(unit_, num_rows_, lane_, kLanes, weights_);
    ++unit_;
    enter_unit();
  }
  // Makes what is left.
  void finish(Vec (&sum)[kVecs]) {
    while (!is_done()) advance();
    for (int v = 0; v < kVecs; ++v) sum[v] = sum_[v] + other_[v];
  }

 private:
  static constexpr Real kInfinity = std::numeric_limits<Real>::infinity();

  int num_rows_of(int unit) const { return step_.units.num_rows[static_cast<std::size_t>(unit)]; }

  [[gnu::always_inline]] void enter_unit() {
    if (is_done()) return;
    const std::uint32_t* bits = step_.units.bits[static_cast<std::size_t>(unit_)];
    // In place, the search for the largest score has taken dead scores to -inf already.
    is_masked_ = !Weights::kInPlace && bits != nullptr;
    for (int v = 0; is_masked_ && v < kVecs; ++v) {
      words_[v] = Vec::load_words(bits + lane_ + v * Vec::kWidth);
    }
    scores_ = step_.scores + unit_ * tile::kBlock + lane_;
    num_rows_ = num_rows_of(unit_);
    row_ = 0;
  }

  template <bool kMasked>
  [[gnu::always_inline]] Vec weight(int row, int v) const {
    Vec score = Vec::load(scores_ + row * tile::kLanes + v * Vec::kWidth);
    if constexpr (kMasked) score = Vec::select(words_[v], row, score, Vec::set1(-kInfinity));
    return exp2<Weights::kExpDegree>(Vec::fma(score, scale_, Vec::zero() - base_[v]));
  }

  template <bool kMasked>
  [[gnu::always_inline]] void make_pair() {
    const bool has_second = row_ + 1 < num_rows_;
    for (int v = 0; v < kVecs; ++v) {
      const Vec first = weight<kMasked>(row_, v);
      const Vec second = has_second ? weight<kMasked>(row_ + 1, v) : Vec::zero();
      sum_[v] = sum_[v] + first;
      other_[v] = other_[v] + second;
      weights_.store(unit_, row_, lane_ + v * Vec::kWidth, first, second);
    }
  }

  const SoftmaxStep<Real>& step_;
  Weights weights_;
  Vec scale_;
  int lane_;
  int unit_ = 0;
  int row_ = 0;
  int num_rows_ = 0;
  bool is_masked_ = false;
  const Real* scores_ = nullptr;
  typename Vec::Words words_[kVecs];
  Vec base_[kVecs];
  Vec sum_[kVecs];
  Vec other_[kVecs];
};

template <class Vec, class Weights>
class SoftmaxLoops {
 public:
  using Real = typename Vec::Value;
  using Run = WeightRun<Vec, Weights>;

  static void softmax(int dim, const SoftmaxStep<Real>& step) {
    softmax_beside(dim, step, [](Run& /*run*/) {});
  }

  // drive(run) may advance the run of each group of lanes as far as it likes.
  template <class Drive>
  [[gnu::always_inline]] static void softmax_beside(int dim, const SoftmaxStep<Real>& step,
                                                    Drive drive) {
    for (int lane = 0; lane < tile::kLanes; lane += Run::kLanes) {
      Vec base[kVecs];
      bool is_new = false;
      for (int v = 0; v < kVecs; ++v) {
        base[v] = Vec::load(step.state.base + lane + v * kWidth);
        is_new |= Vec::any_less(base[v], Vec::set1(kLowestBase));
      }
      const bool looks_first = Weights::kInPlace || is_new;
      if (looks_first) move_bases(dim, step, lane, base);
      Vec sum[kVecs];
      {
        Run run(step, lane, base);
        drive(run);
        run.finish(sum);
      }
      if (!looks_first && is_large(sum)) {
        move_bases(dim, step, lane, base);
        Run(step, lane, base).finish(sum);
      }
      for (int v = 0; v < kVecs; ++v) {
        Real* row_sum = step.state.row_sum + lane + v * kWidth;
        (Vec::load(row_sum) + sum[v]).store(row_sum);
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
  static constexpr int kVecs = Run::kVecs;
  static constexpr Real kInfinity = std::numeric_limits<Real>::infinity();
  static constexpr Real kLowestBase = static_cast<Real>(-1e30);
  // The softmax is the same for any base. One that stands still saves the search for the largest
  // score and the rescaling, so it follows only where weights get large: scores kSlack above it
  // where they are looked at first, else sums of a batch above kLargestSum.
  static constexpr Real kSlack = 8;
  static constexpr Real kLargestSum = 65536;

  static constexpr std::size_t index(int u) { return static_cast<std::size_t>(u); }

  static bool is_large(const Vec (&sum)[kVecs]) {
    bool result = false;
    for (const Vec& s : sum) result |= Vec::any_less(Vec::set1(kLargestSum), s);
    return result;
  }

  static Vec cap(const LaneScoreChange<Real>& change, int at, Vec score) {
    const auto [bent, slope] = tanh_and_slope(score * Vec::set1(1 / change.soft_cap));
    if (change.derivatives != nullptr) slope.store(change.derivatives + at);
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

  // Moves the bases of the lanes whose scores rise too far above them to their largest scores, and
  // rescales what was summed so far.
  static void move_bases(int dim, const SoftmaxStep<Real>& step, int lane, Vec (&base)[kVecs]) {
    const LaneState<Real>& state = step.state;
    Vec top[kVecs];
    find_tops(step.units, step.scores + lane, lane, top);
    Vec shrink[kVecs];
    bool moves = false;
    bool has_sums = false;
    for (int v = 0; v < kVecs; ++v) {
      const Vec old_base = base[v];
      has_sums |= Vec::any_less(Vec::set1(kLowestBase), old_base);
      const Vec limit = old_base + Vec::set1(kSlack);
      top[v] = top[v] * Vec::set1(step.scale);
      moves |= Vec::any_less(limit, top[v]);
      base[v] = Vec::where_less(limit, top[v], top[v], old_base);
      base[v].store(state.base + lane + v * kWidth);
      // A row that has seen nothing keeps -inf as its base; any finite one gives it zeros.
      base[v] = Vec::max(base[v], Vec::set1(kLowestBase));
      shrink[v] = exp2(Vec::max(old_base, Vec::set1(kLowestBase)) - base[v]);
    }
    if (moves && has_sums) rescale(dim, shrink, state.row_sum + lane, state.sums + lane);
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
