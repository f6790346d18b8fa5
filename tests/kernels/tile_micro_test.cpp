// Panels, products and softmax loops of attention, on every instruction set of this machine,
// against plain loops in f64.

#include "perpend/kernels/cpu/tile_micro.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "perpend/core/aligned_buffer.h"
#include "perpend/core/cpu_features.h"
#include "perpend/core/error.h"
#include "perpend/core/half.h"
#include "perpend/core/random.h"
#include "perpend/kernels/cpu/register_scope.h"
#include "tests/campaign.h"

namespace perpend {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int kLanes = tile::kLanes;
constexpr int kUnit = tile::kUnit;

template <class Real>
struct NamedMicro {
  std::string name;
  const TileMicro<Real>& micro;
  double product_error;  // of operands that bf16 holds exactly, relative to the sum of sizes
  double weight_error;   // relative, of weights as the next product reads them
};

std::vector<NamedMicro<float>> float_micros() {
  std::vector<NamedMicro<float>> micros = {{"scalar", tile_micro_scalar(), 1e-6, 1e-6}};
  const CpuIsa isa = hardware_cpu_isa();
  if (isa >= CpuIsa::kAvx2) micros.push_back({"avx2", tile_micro_avx2(), 1e-6, 1e-6});
  if (isa >= CpuIsa::kAvx512) micros.push_back({"avx512", tile_micro_avx512(), 1e-6, 1e-6});
  if (isa >= CpuIsa::kAvx512Bf16) {
    micros.push_back({"avx512bf16", tile_micro_avx512bf16(), 1e-6, 4e-3});
  }
  if (isa >= CpuIsa::kAmx) {
    micros.push_back({"amx", tile_micro_amx(), 1e-6, 4e-3});
    micros.push_back({"amx f32", tile_micro_amx_f32(), 1e-6, 1e-6});
  }
  return micros;
}

std::vector<NamedMicro<double>> double_micros() {
  return {{"f64", tile_micro_f64(), 1e-14, 1e-14}};
}

// A step of random size on random operands, in panels and as it is.
template <class Real>
class Step {
 public:
  Step(const TileMicro<Real>& micro, Random& random)
      : Step(micro, random, 1 + static_cast<int>(random.next_below(tile::kMaxDim))) {}
  Step(const TileMicro<Real>& micro, Random& random, int head_dim) : dim(head_dim), micro_(micro) {
    units.count = 1 + static_cast<int>(random.next_below(4));
    for (int u = 0; u < units.count; ++u) {
      units.num_rows[at(u)] =
          random.next_below(2) == 0 ? kUnit : 1 + static_cast<int>(random.next_below(kUnit));
      for (std::uint32_t& word : bits[at(u)]) {
        word = static_cast<std::uint32_t>(random.next_below(std::uint64_t{1} << 32));
        if (random.next_below(4) == 0) word = 0;
      }
      units.bits[at(u)] = random.next_below(2) == 0 ? nullptr : bits[at(u)].data();
    }
    inner = values(units.count * kUnit, random);
    outer = values(kLanes, random);
    pack();
  }

  const TileMicro<Real>& micro() const { return micro_; }
  int inner_rows() const { return units.count * kUnit; }
  bool exists(int row) const { return row % kUnit < units.num_rows[at(row / kUnit)]; }
  bool visible(int row, int lane) const {
    const std::uint32_t* words = units.bits[at(row / kUnit)];
    return exists(row) && (words == nullptr || (words[lane] >> (row % kUnit) & 1U) != 0);
  }
  double x(int row, int d) const { return inner[at(row * dim + d)]; }
  double y(int lane, int d) const { return outer[at(lane * dim + d)]; }

  static std::size_t at(int index) { return static_cast<std::size_t>(index); }

  int dim = 0;
  TileUnits units;
  std::array<std::array<std::uint32_t, kLanes>, 4> bits{};
  std::vector<Real> inner;
  std::vector<Real> outer;
  UnitPanels rows{};
  UnitPanels columns{};
  AlignedBuffer lanes;

 private:
  // Sums of few powers of two, which bf16 holds.
  std::vector<Real> values(int count, Random& random) const {
    std::vector<Real> result(at(count * dim));
    for (Real& value : result) {
      value = static_cast<Real>(static_cast<int>(random.next_below(33)) - 16) / 16;
    }
    return result;
  }

  RowPointers pointers(std::vector<Real>& from, int first, int count) const {
    const DType dtype = sizeof(Real) == 8 ? DType::kF64 : DType::kF32;
    RowPointers result{dtype, dim, {}};
    for (int row = 0; row < count; ++row) {
      result.rows[at(row)] = reinterpret_cast<std::byte*>(from.data() + (first + row) * dim);
    }
    return result;
  }

  void pack() {
    const std::size_t bytes = micro_.panel_bytes(dim);
    panels_ = AlignedBuffer(bytes * at(2 * units.count));
    for (int u = 0; u < units.count; ++u) {
      std::byte* x_panel = panels_.data() + bytes * at(2 * u);
      std::byte* transposed = micro_.transposes ? x_panel + bytes : nullptr;
      micro_.pack_unit(pointers(inner, u * kUnit, units.num_rows[at(u)]), x_panel, transposed);
      rows[at(u)] = x_panel;
      columns[at(u)] = micro_.transposes ? transposed : x_panel;
    }
    lanes = AlignedBuffer(bytes);
    micro_.pack_lanes(pointers(outer, 0, kLanes), lanes.data());
  }

  const TileMicro<Real>& micro_;
  AlignedBuffer panels_;
};

template <class Real>
AlignedBuffer poisoned(int count) {
  AlignedBuffer buffer(static_cast<std::size_t>(count) * sizeof(Real));
  std::fill_n(buffer.as<Real>(), count, std::numeric_limits<Real>::quiet_NaN());
  return buffer;
}

template <class Real>
AlignedBuffer scores_of(const Step<Real>& step) {
  AlignedBuffer scores = poisoned<Real>(step.inner_rows() * kLanes);
  step.micro().scores(step.dim, {step.units, step.rows, step.lanes.data(), scores.as<Real>()});
  return scores;
}

// Scores of other steps that are made beside something else, where the micro can.
template <class Real>
class Beside {
 public:
  Beside(const NamedMicro<Real>& named, Random& random, int dim) : named_(named) {
    others_.reserve(2);  // a step points into itself
    for (int i = 0; i < 2; ++i) {
      others_.emplace_back(named.micro, random, dim);
      found_.push_back(poisoned<Real>(others_.back().inner_rows() * kLanes));
    }
  }
  bool possible() const { return named_.micro.softmax_beside_scores != nullptr; }
  std::array<ScoreStep<Real>, 2> steps() {
    const auto step = [&](std::size_t i) {
      const Step<Real>& other = others_[i];
      return ScoreStep<Real>{other.units, other.rows, other.lanes.data(), found_[i].as<Real>()};
    };
    return {step(0), step(1)};
  }
  // The first `count` must be what they are alone.
  void check(std::size_t count) const {
    for (std::size_t i = 0; i < count; ++i) {
      const AlignedBuffer alone = scores_of(others_[i]);
      ASSERT_EQ(std::memcmp(alone.data(), found_[i].data(), alone.size()), 0)
          << named_.name << " dim " << others_[i].dim;
    }
  }

 private:
  const NamedMicro<Real>& named_;
  std::vector<Step<Real>> others_;
  std::vector<AlignedBuffer> found_;
};

template <class Real>
void check_scores(const NamedMicro<Real>& named, Random& random) {
  const Step<Real> step(named.micro, random);
  const RegisterScope registers(named.micro);
  AlignedBuffer scores = scores_of(step);
  for (int row = 0; row < step.inner_rows(); ++row) {
    if (!step.exists(row)) continue;
    for (int lane = 0; lane < kLanes; ++lane) {
      double want = 0;
      for (int d = 0; d < step.dim; ++d) want += step.x(row, d) * step.y(lane, d);
      ASSERT_NEAR(scores.as<Real>()[row * kLanes + lane], want, named.product_error * step.dim)
          << named.name << " dim " << step.dim << " row " << row << " lane " << lane;
    }
  }
}

// Softmax of one step after another that has moved the state, and the product with the columns.
template <class Real>
void check_softmax(const NamedMicro<Real>& named, Random& random) {
  const Step<Real> step(named.micro, random);
  const RegisterScope registers(named.micro);
  const int padded = named.micro.padded(step.dim);
  AlignedBuffer scores = scores_of(step);
  AlignedBuffer before(scores.size());
  std::memcpy(before.data(), scores.data(), scores.size());
  AlignedBuffer sums(static_cast<std::size_t>(padded * kLanes) * sizeof(Real));
  alignas(64) std::array<Real, kLanes> base;
  alignas(64) std::array<Real, kLanes> row_sum;
  const bool fresh = random.next_below(2) == 0;
  base.fill(fresh ? -std::numeric_limits<Real>::infinity() : Real{0.5});
  row_sum.fill(fresh ? 0 : 2);
  std::fill_n(sums.as<Real>(), padded * kLanes, fresh ? Real{0} : Real{1.5});
  AlignedBuffer own(named.micro.weight_bytes(step.units.count));
  std::byte* weights = named.micro.weights_in_place ? scores.data() : own.data();
  // Large ones leave a base that is there far behind.
  const std::array<Real, 3> scales = {Real{0.25}, Real{2}, Real{30}};
  const Real scale = scales[random.next_below(scales.size())];
  const SoftmaxStep<Real> call{step.units,
                               scale,
                               scores.as<Real>(),
                               weights,
                               {base.data(), row_sum.data(), sums.as<Real>()}};
  Beside<Real> beside(named, random, step.dim);
  if (beside.possible()) {
    named.micro.softmax_beside_scores(step.dim, call, beside.steps()[0]);
    beside.check(1);
  } else {
    named.micro.softmax(step.dim, call);
  }
  named.micro.accumulate(step.dim, step.units, step.columns, weights, sums.as<Real>());
  for (int lane = 0; lane < kLanes; ++lane) {
    const auto score = [&](int row) {
      return static_cast<double>(scale * before.as<Real>()[row * kLanes + lane]);
    };
    const auto index = static_cast<std::size_t>(lane);
    double top = fresh ? -kInfinity : 0.5;
    for (int row = 0; row < step.inner_rows(); ++row) {
      if (step.visible(row, lane)) top = std::max(top, score(row));
    }
    ASSERT_EQ(std::isinf(base[index]), std::isinf(top)) << named.name;
    if (std::isinf(top)) {
      ASSERT_EQ(row_sum[index], 0) << named.name;
      continue;
    }
    // Any base will do that leaves the weights in range.
    const double from = base[index];
    ASSERT_LE(from, top + 1e-5 * std::abs(top)) << named.name;
    ASSERT_LT(top - from, 16.1) << named.name;
    const double shrink = fresh ? 0 : std::exp2(0.5 - from);
    double sum = 2 * shrink;
    std::vector<double> o(static_cast<std::size_t>(step.dim), 1.5 * shrink);
    for (int row = 0; row < step.inner_rows(); ++row) {
      if (!step.visible(row, lane)) continue;
      const double p = std::exp2(score(row) - from);
      sum += p;
      for (int d = 0; d < step.dim; ++d) o[static_cast<std::size_t>(d)] += p * step.x(row, d);
    }
    const double rounding = 1e-5 + 1e-7 * std::abs(top);  // of the scores too
    ASSERT_NEAR(row_sum[index], sum, rounding * (1 + sum)) << named.name;
    for (int d = 0; d < step.dim; ++d) {
      ASSERT_NEAR(sums.as<Real>()[d * kLanes + lane], o[static_cast<std::size_t>(d)],
                  (named.weight_error + rounding) * (1 + sum))
          << named.name << " dim " << step.dim << " d " << d << " lane " << lane;
    }
  }
}

// Gradients of scores, with the statistics of queries across lanes or along inner rows, summed by
// the product with the columns.
template <class Real>
void check_gradients(const NamedMicro<Real>& named, Random& random) {
  const Step<Real> step(named.micro, random);
  const RegisterScope registers(named.micro);
  const bool by_lane = random.next_below(2) == 0;
  AlignedBuffer scores = scores_of(step);
  AlignedBuffer products = scores_of(step);
  AlignedBuffer before(scores.size());
  std::memcpy(before.data(), scores.data(), scores.size());
  std::vector<Real> lse(static_cast<std::size_t>(std::max(kLanes, step.inner_rows())));
  std::vector<Real> delta(lse.size());
  for (std::size_t i = 0; i < lse.size(); ++i) {
    lse[i] = static_cast<Real>(random.next_below(8)) + 4;
    if (random.next_below(8) == 0) lse[i] = std::numeric_limits<Real>::infinity();
    delta[i] = random.next_float();
  }
  AlignedBuffer own(2 * named.micro.weight_bytes(step.units.count));
  const bool in_place = named.micro.weights_in_place;
  std::byte* gradients = in_place ? products.data() : own.data();
  std::byte* probabilities =
      in_place ? scores.data() : own.data() + named.micro.weight_bytes(step.units.count);
  const Real scale = Real{0.125};
  GradientStep<Real> call{step.units,
                          scale,
                          scores.as<Real>(),
                          products.as<Real>(),
                          nullptr,
                          probabilities,
                          gradients,
                          nullptr,
                          nullptr,
                          {},
                          {}};
  if (by_lane) {
    call.lane_lse = lse.data();
    call.lane_delta = delta.data();
  }
  for (int u = 0; u < step.units.count; ++u) {
    call.inner_lse[static_cast<std::size_t>(u)] = lse.data() + u * kUnit;
    call.inner_delta[static_cast<std::size_t>(u)] = delta.data() + u * kUnit;
  }
  Beside<Real> beside(named, random, step.dim);
  if (beside.possible()) {
    named.micro.gradients_beside_scores(step.dim, call, beside.steps());
    beside.check(2);
  } else {
    named.micro.gradients(call);
  }
  const int padded = named.micro.padded(step.dim);
  AlignedBuffer sums(static_cast<std::size_t>(padded * kLanes) * sizeof(Real));
  std::fill_n(sums.as<Real>(), padded * kLanes, Real{0});
  named.micro.accumulate(step.dim, step.units, step.columns, gradients, sums.as<Real>());
  for (int lane = 0; lane < kLanes; ++lane) {
    double size = 0;
    std::vector<double> want(static_cast<std::size_t>(step.dim));
    for (int row = 0; row < step.inner_rows(); ++row) {
      if (!step.visible(row, lane)) continue;
      const auto query = static_cast<std::size_t>(by_lane ? lane : row);
      const double score = before.as<Real>()[row * kLanes + lane];
      const double p = std::exp2(score * scale - static_cast<double>(lse[query]));
      const double ds = p * (score - static_cast<double>(delta[query]));
      size += std::abs(ds);
      for (int d = 0; d < step.dim; ++d) want[static_cast<std::size_t>(d)] += ds * step.x(row, d);
    }
    for (int d = 0; d < step.dim; ++d) {
      ASSERT_NEAR(sums.as<Real>()[d * kLanes + lane], want[static_cast<std::size_t>(d)],
                  (named.weight_error + 1e-5) * (1e-3 + size))
          << named.name << " dim " << step.dim << " by lane " << by_lane;
    }
  }
}

template <class Check>
void on_every_micro(Check check) {
  Random random(20261126);
  for (int i = num_trials(40); i > 0; --i) {
    for (const NamedMicro<float>& named : float_micros()) check(named, random);
    for (const NamedMicro<double>& named : double_micros()) check(named, random);
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(TileMicro, ScoresAreProducts) {
  on_every_micro([](const auto& named, Random& random) { check_scores(named, random); });
}

TEST(TileMicro, SoftmaxOfAStep) {
  on_every_micro([](const auto& named, Random& random) { check_softmax(named, random); });
}

TEST(TileMicro, GradientsOfAStep) {
  on_every_micro([](const auto& named, Random& random) { check_gradients(named, random); });
}

// A score far below the top of its row weighs exactly nothing (subnormal weights would be slow),
// and one that is not a number spoils its row and no other.
template <class Real>
void check_extremes(const NamedMicro<Real>& named, Random& /*random*/) {
  const RegisterScope registers(named.micro);
  constexpr Real kNan = std::numeric_limits<Real>::quiet_NaN();
  TileUnits units;
  units.count = 1;
  units.num_rows[0] = kUnit;
  units.bits[0] = nullptr;
  AlignedBuffer scores(tile::kBlock * sizeof(Real));
  std::fill_n(scores.as<Real>(), tile::kBlock, Real{-1e6});
  std::fill_n(scores.as<Real>(), kLanes, Real{1});
  scores.as<Real>()[3 * kLanes + 5] = kNan;
  AlignedBuffer own(named.micro.weight_bytes(1));
  std::byte* weights = named.micro.weights_in_place ? scores.data() : own.data();
  alignas(64) std::array<Real, kLanes> base;
  alignas(64) std::array<Real, kLanes> row_sum{};
  base.fill(-std::numeric_limits<Real>::infinity());
  AlignedBuffer sums(tile::kBlock * sizeof(Real));
  std::fill_n(sums.as<Real>(), tile::kBlock, Real{0});
  named.micro.softmax(
      1,
      {units, Real{1}, scores.as<Real>(), weights, {base.data(), row_sum.data(), sums.as<Real>()}});
  for (int lane = 0; lane < kLanes; ++lane) {
    const Real sum = row_sum[static_cast<std::size_t>(lane)];
    ASSERT_TRUE(lane == 5 ? std::isnan(sum) : sum == 1) << named.name << " lane " << lane;
  }
}

TEST(TileMicro, ExtremeScores) {
  on_every_micro([](const auto& named, Random& random) { check_extremes(named, random); });
}

TEST(TileMicro, StoredLanesAreScaledRows) {
  Random random(7);
  for (const NamedMicro<float>& named : float_micros()) {
    for (const int dim : {1, 16, 33, 128, 256}) {
      AlignedBuffer sums(static_cast<std::size_t>(named.micro.padded(dim) * kLanes) *
                         sizeof(float));
      std::fill_n(sums.as<float>(), named.micro.padded(dim) * kLanes, 0.0F);
      for (int i = 0; i < dim * kLanes; ++i) sums.as<float>()[i] = random.next_float();
      alignas(64) std::array<float, kLanes> factors;
      for (float& factor : factors) factor = random.next_float();
      // A value more than the row, which must stay.
      std::vector<std::uint16_t> out(static_cast<std::size_t>(kLanes * (dim + 1)), 7);
      RowPointers rows{DType::kBF16, dim, {}};
      for (int lane = 0; lane < kLanes - 1; ++lane) {
        rows.rows[static_cast<std::size_t>(lane)] =
            reinterpret_cast<std::byte*>(out.data() + lane * (dim + 1));
      }
      named.micro.store_lanes(sums.as<float>(), factors.data(), rows);
      for (int lane = 0; lane < kLanes; ++lane) {
        for (int d = 0; d <= dim; ++d) {
          const std::uint16_t want = lane == kLanes - 1 || d == dim
                                         ? 7
                                         : f32_to_bf16(sums.as<float>()[d * kLanes + lane] *
                                                       factors[static_cast<std::size_t>(lane)]);
          ASSERT_EQ(out[static_cast<std::size_t>(lane * (dim + 1) + d)], want)
              << named.name << " dim " << dim << " lane " << lane << " d " << d;
        }
      }
    }
  }
}

}  // namespace
}  // namespace perpend
