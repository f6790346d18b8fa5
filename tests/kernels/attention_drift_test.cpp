// What Elastic-Cache decides by, against its formulas in f64.

#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/core/thread_pool.h"
#include "perpend/kernels/table.h"
#include "tests/kernels/drift_case.h"

namespace perpend {
namespace {

void expect_exact(const DriftOperands& operands, double bound) {
  const DriftOracle oracle(operands);
  for (std::int64_t layer = 0; layer < operands.c.layers; ++layer) {
    const std::vector<double> expected = oracle.attended(layer);
    for (std::size_t key = 0; key < expected.size(); ++key) {
      const std::size_t at = static_cast<std::size_t>(layer * operands.c.canvas) + key;
      ASSERT_NEAR(operands.attended[at], expected[key], bound * (1 + expected[key]))
          << "layer " << layer << " key " << key;
    }
    EXPECT_NEAR(operands.similarity[static_cast<std::size_t>(layer)], oracle.similarity(layer),
                bound)
        << "layer " << layer;
  }
}

TEST(AttentionDrift, EqualsItsFormulas) {
  ThreadPool threads(2);
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const DriftCase& c : drift_cases(dtype)) {
      DriftOperands operands(c, 3);
      cpu_kernels().fused.attention_drift(operands.args(), {&threads});
      expect_exact(operands, 1e-5);
    }
  }
}

TEST(AttentionDrift, KeysMayHaveAnotherType) {
  ThreadPool threads(1);
  DriftOperands operands({.key_dtype = DType::kF16}, 4);
  cpu_kernels().fused.attention_drift(operands.args(), {&threads});
  expect_exact(operands, 1e-5);
}

TEST(AttentionDrift, BitsDoNotDependOnThreads) {
  std::vector<std::vector<float>> found;
  for (const int count : {1, 3}) {
    ThreadPool threads(count);
    DriftOperands operands({}, 5);
    cpu_kernels().fused.attention_drift(operands.args(), {&threads});
    found.push_back(operands.attended);
    found.back().insert(found.back().end(), operands.similarity.begin(), operands.similarity.end());
  }
  EXPECT_EQ(found[0], found[1]);
}

TEST(AttentionDrift, NothingChangedIsOne) {
  ThreadPool threads(1);
  for (const bool by_keys : {false, true}) {
    DriftCase c;
    c.by_keys = by_keys;
    c.layers = 1;  // whose old queries are the new ones
    c.changed = {};
    DriftOperands operands(c, 6);
    cpu_kernels().fused.attention_drift(operands.args(), {&threads});
    EXPECT_NEAR(operands.similarity.front(), 1, 1e-6);
  }
}

TEST(AttentionDrift, WrongArgumentsAreRefused) {
  ThreadPool threads(1);
  DriftOperands operands({}, 7);
  const auto refuses = [&](auto change) {
    AttentionDriftArgs args = operands.args();
    change(args);
    EXPECT_THROW(cpu_kernels().fused.attention_drift(args, {&threads}), InvalidArgument);
  };
  refuses([](AttentionDriftArgs& args) { args.window = {}; });
  refuses([](AttentionDriftArgs& args) { args.k_pages.shape[2] = 3; });
  refuses([](AttentionDriftArgs& args) { args.old_keys.dtype = DType::kF16; });
  refuses([](AttentionDriftArgs& args) { args.old_keys = {}; });
  refuses([](AttentionDriftArgs& args) { args.changed.shape[0] -= 1; });
  refuses([](AttentionDriftArgs& args) { args.page_tables.shape[1] = 2; });
  refuses([](AttentionDriftArgs& args) { args.statistics.shape[0] -= 1; });
  operands.c.tracked[1] = 150;
  refuses([](AttentionDriftArgs&) {});
}

}  // namespace
}  // namespace perpend
