// The kernels that measure how attention drifts, run by the emulated GPU, against f64.

#include <gtest/gtest.h>

#include "perpend/kernels/cuda/device/attention_drift.cuh"
#include "perpend/kernels/cuda/drift_params.h"
#include "tests/kernels/drift_case.h"

namespace perpend {
namespace {

template <int kHeadDim>
void run_drift(const device::DriftParams& params, std::uint64_t seed) {
  using device::Bf16;
  const DriftSplit& split = params.split;
  const int heads_and_groups = split.num_layers * split.num_groups();
  const auto run = [&](int ctas, int threads, FunctionRef<void()> kernel) {
    device::run_emulated(ctas, threads, seed, kernel);
  };
  run(heads_and_groups * split.num_q_heads * split.num_all_parts(), device::kDriftThreads,
      [&] { device::drift_statistics<Bf16, kHeadDim>(params); });
  run(heads_and_groups * split.num_head_groups() * split.num_tiles(), device::kDriftThreads,
      [&] { device::drift_weights<Bf16, kHeadDim>(params); });
  run(split.num_layers * split.num_tiles(), device::kDriftMeansThreads,
      [&] { device::drift_means<device::kDriftMeansThreads>(params); });
}

TEST(AttentionDriftEmulated, EqualsItsFormulas) {
  std::uint64_t seed = 1;
  for (const DriftCase& c : drift_cases(DType::kBF16)) {
    DriftOperands operands(c, seed);
    const AttentionDriftArgs args = operands.args();
    const device::DriftParams params = drift_params(args);
    c.head_dim <= 64 ? run_drift<64>(params, seed) : run_drift<128>(params, seed);
    ++seed;
    const DriftOracle oracle(operands);
    for (std::int64_t layer = 0; layer < c.layers; ++layer) {
      const std::vector<double> expected = oracle.attended(layer);
      for (std::size_t key = 0; key < expected.size(); ++key) {
        const std::size_t at = static_cast<std::size_t>(layer * c.canvas) + key;
        ASSERT_NEAR(operands.attended[at], expected[key], 1e-5 * (1 + expected[key]))
            << "case " << seed << " layer " << layer << " key " << key;
      }
      EXPECT_NEAR(operands.similarity[static_cast<std::size_t>(layer)], oracle.similarity(layer),
                  1e-5)
          << "case " << seed << " layer " << layer;
    }
  }
}

}  // namespace
}  // namespace perpend
