// The public door: what it refuses, and what a page table may leave out.

#include "perpend/kernels/attention.h"

#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/kernels/reference/attention_call.h"
#include "perpend/kernels/table.h"

namespace perpend {
namespace {

TEST(Attention, WrongArgumentsAreRefused) {
  ThreadPool threads(1);
  AttentionCase c;
  c.masks = {Mask::causal()};
  c.shape = {{{4, 4, 0}}, 2, 1};
  AttentionCall call(c);
  AttentionOutputs outputs = call.outputs();
  const AttentionPlans plans = plan(c, cpu_kernels().attention);
  const AttentionArgs right = call.arguments(outputs);
  attention_forward(right, plans.rows, {&threads});
  const auto refused = [&](auto change) {
    AttentionArgs wrong = right;
    change(wrong);
    EXPECT_THROW(attention_forward(wrong, plans.rows, {&threads}), InvalidArgument);
  };
  refused([](AttentionArgs& a) { a.k.shape[3] = 32; });
  refused([](AttentionArgs& a) { a.q.shape[1] = 5; });
  refused([](AttentionArgs& a) { a.k.shape[1] = 3; });
  refused([](AttentionArgs& a) { a.k.dtype = DType::kI32; });
  refused([](AttentionArgs& a) { a.v.dtype = DType::kF16; });
  refused([](AttentionArgs& a) { a.q.strides[3] = 2; });
  refused([](AttentionArgs& a) { a.lse.shape[2] = 3; });
  refused([](AttentionArgs& a) { a.o.dtype = DType::kF16; });
  refused([](AttentionArgs& a) { a.k.shape[2] = 2; });
  refused([](AttentionArgs& a) { a.v.device = {DeviceType::kCuda, 0}; });
  refused([](AttentionArgs& a) { a.lse.device = {DeviceType::kCuda, 0}; });
}

TEST(Attention, WhatHasNoKernelIsToldBeforePlanning) {
  const Device cpu;
  EXPECT_NO_THROW(check_supported({DType::kF32, DType::kF32, 256}, cpu));
  EXPECT_THROW(check_supported({DType::kF32, DType::kF32, 257}, cpu), Unsupported);
  EXPECT_THROW(check_supported({DType::kF64, DType::kF64, 64}, {DeviceType::kCuda, 0}),
               Unsupported);
}

TEST(Attention, PlansAreForDevicesThatCaptureLaunches) {
  AttentionCase c;
  c.masks = {Mask::causal()};
  c.shape = {{{1, 4, 3}}, 2, 1};
  const Schedule schedule = plan(c, cpu_kernels().attention).rows;
  EXPECT_THROW(plan_capacity(c.spec(), schedule, {}), Unsupported);
  EXPECT_THROW(make_attention_plan(c.spec(), {.items = 1}, {}), Unsupported);
}

TEST(Attention, OnlyPagesThatAreSeenMustExist) {
  ThreadPool threads(2);
  for (std::int64_t q_len : {1, 100}) {
    AttentionCase c;
    c.page_size = 64;
    c.masks = {Mask::causal() & Mask::window(10)};
    c.shape = {{{q_len, 500, 500 - q_len}}, 2, 1};
    AttentionCall call(c);
    AttentionOutputs outputs = call.outputs();
    const AttentionPlans plans = plan(c, cpu_kernels().attention);
    const AttentionArgs args = call.arguments(outputs);
    auto* pages = args.page_table.as<std::int32_t>();
    pages[0] = -1;
    EXPECT_NO_THROW(attention_forward(args, plans.rows, {&threads}));
    for (std::int32_t page : {-1, 1000}) {
      pages[7] = page;
      EXPECT_THROW(attention_forward(args, plans.rows, {&threads}), InvalidArgument);
    }
  }
}

}  // namespace
}  // namespace perpend
