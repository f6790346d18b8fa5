#include <chrono>
#include <cstdlib>

#include <gtest/gtest.h>

#include "perpend/core/random.h"
#include "perpend/schedule/cost.h"
#include "perpend/schedule/gpu_tiling.h"
#include "perpend/workloads/workload.h"

namespace perpend {
namespace {

// Sanitizers make times meaningless; tests/campaign.h.
class PlanningTime : public testing::Test {
 protected:
  void SetUp() override {
    if (std::getenv("PERPEND_SHORT") != nullptr) GTEST_SKIP() << "built with sanitizers";
  }
};

// The least of several runs: machines are noisy, bench/schedule measures.
double milliseconds_of(const Mask& mask, const AttentionShape& shape, const Tiling& tiling) {
  double least = 1e9;
  for (int i = 0; i < 3; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const Schedule schedule = compile(mask, shape, tiling);
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    least = std::min(least, took.count());
  }
  return least;
}

// Ten times what is promised for an idle machine.
TEST_F(PlanningTime, EveryWorkloadIsPlannedInMilliseconds) {
  for (const Workload& workload : read_workloads("gpu_bf16")) {
    EXPECT_LT(
        milliseconds_of(workload.mask, workload.shape, gpu_tiling(workload.head_dim, Sweep::kRows)),
        50)
        << workload.name;
  }
}

TEST_F(PlanningTime, AMillionTokensArePlannedInMilliseconds) {
  const Mask mask = parse_mask("causal & (sink(128) | window(2048))");
  const std::int64_t length = 1 << 20;
  const AttentionShape shape{{{length, length, 0}}, 1, 1};
  const Tiling tiling = gpu_tiling(128, Sweep::kRows);
  EXPECT_LT(milliseconds_of(mask, shape, tiling), 50);
  EXPECT_LT(cost_of(compile(mask, shape, tiling)).list_bytes, 50'000'000);
}

TEST_F(PlanningTime, RaggedDocumentsArePlannedInMilliseconds) {
  Random random(7);
  std::vector<std::int64_t> starts;
  std::int64_t length = 0;
  AttentionShape batch;
  for (int i = 0; i < 500; ++i) {
    starts.push_back(length);
    const std::int64_t tokens = 16 + static_cast<std::int64_t>(random.next_below(385));
    batch.sequences.push_back({tokens, tokens, 0});
    length += tokens;
  }
  const Tiling tiling = gpu_tiling(128, Sweep::kRows);
  const Mask documents = Mask::causal() & Mask::same(Label::segments_at(starts));
  EXPECT_LT(milliseconds_of(documents, {{{length, length, 0}}, 1, 1}, tiling), 30);
  EXPECT_LT(milliseconds_of(Mask::causal(), batch, tiling), 30);
}

}  // namespace
}  // namespace perpend
