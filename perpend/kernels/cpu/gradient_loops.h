#pragma once

#include "perpend/kernels/cpu/softmax_loops.h"

// From scores and products to the gradients of scores, as runs (see softmax_loops.h).

namespace perpend {

// Gradients, and probabilities where the queries are inner rows. kByLane: the statistics of queries
// lie across lanes.
template <class Vec, class Weights, bool kByLane, bool kCapped>
class GradientRun {
 public:
  using Real = typename Vec::Value;

  explicit GradientRun(const GradientStep<Real>& step)
      : step_(step), gradients_(step.gradients), probabilities_(step.probabilities) {
    enter_unit();
  }

  // Of all pairs of rows of each vector.
  int num_steps() const {
    int count = 0;
    for (int u = 0; u < step_.units.count; ++u) count += (num_rows_of(u) + 1) / 2;
    return count * (tile::kLanes / Vec::kWidth);
  }
  bool is_done() const { return unit_ == step_.units.count; }
  [[gnu::always_inline]] void advance() {
    is_masked_ ? make_pair<true>() : make_pair<false>();
    row_ += 2;
    if (row_ < num_rows_) return;
    fill_unit<Vec>(unit_, num_rows_, lane_, Vec::kWidth, gradients_);
    if constexpr (!kByLane) fill_unit<Vec>(unit_, num_rows_, lane_, Vec::kWidth, probabilities_);
    lane_ += Vec::kWidth;
    if (lane_ == tile::kLanes) {
      lane_ = 0;
      ++unit_;
    }
    enter_unit();
  }
  // Makes what is left.
  void finish() {
    while (!is_done()) advance();
  }

 private:
  static constexpr Real kInfinity = std::numeric_limits<Real>::infinity();

  struct Pair {
    Vec probability;
    Vec gradient;
  };

  static constexpr std::size_t index(int u) { return static_cast<std::size_t>(u); }
  int num_rows_of(int unit) const { return step_.units.num_rows[index(unit)]; }

  // A unit for one vector of lanes.
  [[gnu::always_inline]] void enter_unit() {
    if (is_done()) return;
    const std::uint32_t* bits = step_.units.bits[index(unit_)];
    is_masked_ = bits != nullptr;
    if (is_masked_) words_ = Vec::load_words(bits + lane_);
    if constexpr (kByLane) {
      lse_ = Vec::load(step_.lane_lse + lane_);
      delta_ = Vec::load(step_.lane_delta + lane_);
    }
    num_rows_ = num_rows_of(unit_);
    row_ = 0;
  }

  template <bool kMasked>
  [[gnu::always_inline]] Pair gradient(int row) {
    const int at = unit_ * tile::kBlock + row * tile::kLanes + lane_;
    Vec score = Vec::load(step_.scores + at);
    if constexpr (kMasked) score = Vec::select(words_, row, score, Vec::set1(-kInfinity));
    if constexpr (!kByLane) {
      lse_ = Vec::set1(step_.inner_lse[index(unit_)][row]);
      delta_ = Vec::set1(step_.inner_delta[index(unit_)][row]);
    }
    const Vec p =
        exp2<Weights::kExpDegree>(Vec::fma(score, Vec::set1(step_.scale), Vec::zero() - lse_));
    Vec ds = p * (Vec::load(step_.products + at) - delta_);
    if constexpr (kCapped) ds = ds * Vec::load(step_.derivatives + at);
    return {p, ds};
  }

  template <bool kMasked>
  [[gnu::always_inline]] void make_pair() {
    const Pair first = gradient<kMasked>(row_);
    const Pair second =
        row_ + 1 < num_rows_ ? gradient<kMasked>(row_ + 1) : Pair{Vec::zero(), Vec::zero()};
    gradients_.store(unit_, row_, lane_, first.gradient, second.gradient);
    if constexpr (!kByLane) {
      probabilities_.store(unit_, row_, lane_, first.probability, second.probability);
    }
  }

  const GradientStep<Real>& step_;
  Weights gradients_;
  Weights probabilities_;
  int unit_ = 0;
  int lane_ = 0;
  int row_ = 0;
  int num_rows_ = 0;
  bool is_masked_ = false;
  typename Vec::Words words_{};
  Vec lse_ = Vec::zero();
  Vec delta_ = Vec::zero();
};

template <class Vec, class Weights>
class GradientLoops {
 public:
  using Real = typename Vec::Value;

  static void gradients(const GradientStep<Real>& step) {
    gradients_beside(step, [](auto& /*run*/) {});
  }

  // drive(run) may advance the run as far as it likes.
  template <class Drive>
  static void gradients_beside(const GradientStep<Real>& step, Drive drive) {
    const bool capped = step.derivatives != nullptr;
    if (step.lane_lse != nullptr) {
      capped ? run<true, true>(step, drive) : run<true, false>(step, drive);
    } else {
      capped ? run<false, true>(step, drive) : run<false, false>(step, drive);
    }
  }

 private:
  template <bool kByLane, bool kCapped, class Drive>
  static void run(const GradientStep<Real>& step, Drive drive) {
    GradientRun<Vec, Weights, kByLane, kCapped> work(step);
    drive(work);
    work.finish();
  }
};

}  // namespace perpend
