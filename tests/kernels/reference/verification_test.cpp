#include "perpend/kernels/reference/verification.h"

#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/kernels/reference/attention_samples.h"
#include "perpend/kernels/table.h"

namespace perpend {
namespace {

AttentionCase causal_case() {
  AttentionCase c;
  c.masks = {Mask::causal() & Mask::window(20)};
  c.shape = {{{70, 90, 20}}, 4, 2};
  c.head_dim = 24;
  return c;
}

TEST(Verification, RightKernelsHoldInEveryTypeOnEveryBackend) {
  ThreadPool threads(2);
  const Verification found = verify_attention(causal_case(), threads);
  EXPECT_TRUE(found.holds());
  EXPECT_GT(found.density, 0.2);
  EXPECT_LT(found.density, 0.25);
  for (const BackendVerdict& verdict : found.verdicts) {
    EXPECT_EQ(verdict.deviations.size(), verdict.has_backward ? 5U : 2U);
  }
  EXPECT_GE(found.verdicts.size(), 3U);
}

TEST(Verification, OneThingWrongIsEnough) {
  ThreadPool threads(2);
  const Verification right = verify_attention(causal_case(), threads);
  Verification wrong = right;
  wrong.columns_fault = "query 3, key 2: in 0 tiles, expected 1";
  EXPECT_FALSE(wrong.holds());
  wrong = right;
  wrong.verdicts.back().bits_equal = false;
  EXPECT_FALSE(wrong.holds());
  wrong = right;
  wrong.verdicts.front().deviations.back().error = 1;
  EXPECT_FALSE(wrong.holds());
  EXPECT_FALSE(Verification().holds());
}

TEST(Verification, WhatWouldTakeHoursIsRefused) {
  ThreadPool threads(1);
  AttentionCase c = causal_case();
  c.shape.sequences = {{1 << 17, 1 << 17, 0}};
  EXPECT_THROW(verify_attention(c, threads), InvalidArgument);
}

TEST(AttentionSamples, FindWhatIsWrongInARowThatTheyTake) {
  ThreadPool threads(2);
  AttentionCall call(causal_case());
  const AttentionTable& table = cpu_kernels().attention;
  const AttentionPlans plans = plan(call.attention_case(), table);
  const bool with_gradients = plans.columns.has_value();
  AttentionOutputs outputs = call.run({"cpu", table}, plans, threads);
  Random random(5);
  const auto right = compare_samples(call, outputs, with_gradients, 20, random);
  EXPECT_EQ(right.size(), with_gradients ? 5U : 2U);
  for (const Deviation& d : right) EXPECT_TRUE(d.holds()) << d;
  // The last query is always among the samples, its head by chance.
  for (int head = 0; head < 4; ++head) outputs.o.set(0, 69, head, 3, 9.0);
  const auto wrong = compare_samples(call, outputs, false, 1, random);
  EXPECT_FALSE(wrong[0].holds());
  EXPECT_EQ(wrong[0].row, 69);
  EXPECT_EQ(wrong[0].dim, 3);
}

}  // namespace
}  // namespace perpend
