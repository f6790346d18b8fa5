// The forward kernels for Hopper as their sources stand, run by an emulated GPU, against the f64
// reference: on any machine, without a GPU or its compiler.

#include <gtest/gtest.h>

#include "perpend/core/range.h"
#include "perpend/kernels/cuda/schedule_image.h"
#include "perpend/kernels/reference/attention_expectation.h"
#include "perpend/schedule/gpu_tiling.h"
#include "tests/campaign.h"
#include "tests/kernels/cuda/emulated/emulated_forward.h"
#include "tests/parity/random_attention_case.h"

namespace perpend {
namespace {

template <int kHeadDim, bool kChanges>
void run(const AttentionArgs& args, const AttentionCase& c) {
  const auto head_dim = static_cast<int>(c.head_dim);
  const Schedule rows = compile(c.masks, c.shape, gpu_tiling(head_dim, Sweep::kRows));
  // As the library takes them: wide kernels that change scores do not skip, narrow ones always may.
  constexpr bool kIsWide = kHeadDim > 64;
  constexpr bool kSkips = kIsWide && !kChanges;
  const auto every = [](const WorkItem&) { return true; };
  const ScheduleImage image = make_schedule_image(
      rows, head_dim, {every, 0, kIsWide && kChanges ? PartSkips::kNever : PartSkips::kIfMany});
  const device::Lists lists = lists_of(image, c.shape.group_size());
  if (kSkips && image.skips_parts) {
    using Kernel = device::HopperForward<device::Bf16, kHeadDim, kSkips, kChanges>;
    run_hopper_forward<Kernel>(args, lists, c.seed);
  } else {
    using Kernel = device::HopperForward<device::Bf16, kHeadDim, false, kChanges>;
    run_hopper_forward<Kernel>(args, lists, c.seed);
  }
}

template <int kHeadDim, bool kChanges = false>
void expect_right(const AttentionCase& c) {
  ThreadPool threads;
  AttentionCall call(c);
  AttentionOutputs outputs = call.outputs();
  run<kHeadDim, kChanges>(call.arguments(outputs), c);
  for (const Deviation& d : AttentionExpectation(call, false, threads).compare(outputs)) {
    EXPECT_TRUE(d.holds()) << c << "\n  " << d;
    if (d.output == AttentionOutput::kLse) continue;
    EXPECT_LT(d.total_error, 5e-3) << c << "\n  " << d;
  }
}

// The second sequence may hold anything.
template <int kHeadDim>
void expect_apart(const AttentionCase& c) {
  AttentionCall call(c);
  AttentionOutputs expected = call.outputs();
  run<kHeadDim, false>(call.arguments(expected), c);
  AttentionOutputs found = call.outputs();
  const AttentionArgs args = call.arguments(found);
  const auto& sequences = c.shape.sequences;
  poison(args.q, sequences[0].q_len, sequences[0].q_len + sequences[1].q_len);
  for (const TensorView& view : {args.k, args.v}) {
    poison(view, sequences[0].kv_len, sequences[0].kv_len + sequences[1].kv_len);
  }
  run<kHeadDim, false>(args, c);
  for (const std::size_t s : {0, 2}) {
    EXPECT_EQ(found.o.row_bytes(s), expected.o.row_bytes(s)) << c << ", sequence " << s;
    EXPECT_EQ(found.lse.row_bytes(s), expected.lse.row_bytes(s)) << c << ", sequence " << s;
  }
}

// By the kernels that the library takes.
template <bool kChanges>
void expect_right_as_built(const AttentionCase& c) {
  if (c.head_dim <= 32) return expect_right<32, kChanges>(c);
  if (c.head_dim <= 64) return expect_right<64, kChanges>(c);
  expect_right<96, kChanges>(c);
}

TEST(EmulatedHopperForward, DenseAndCausal) {
  for (const char* mask : {"all", "causal"}) {
    expect_right<32>(make_case(mask, {{300, 300, 0}}, 1, 1, 32));
    expect_right<64>(make_case(mask, {{300, 300, 0}}, 1, 1, 64));
    AttentionCase c = make_case(mask, {{256, 700, 444}}, 1, 1, 96);
    for (int seed = 1; seed <= num_trials(3); ++seed) {
      c.seed = static_cast<std::uint64_t>(seed);
      expect_right<96>(c);
    }
  }
}

// Steps that one half of the rows has, in every order with those of both.
TEST(EmulatedHopperForward, HalvesThatSkip) {
  for (const char* mask : {"same(block(64))", "causal & (same(block(64)) | sink(32))",
                           "causal & (near(64, 1) | every(64, 3))"}) {
    AttentionCase c = make_case(mask, {{400, 400, 0}}, 1, 1, 96);
    for (int seed = 1; seed <= num_trials(3); ++seed) {
      c.seed = static_cast<std::uint64_t>(seed);
      expect_right<96>(c);
    }
  }
}

TEST(EmulatedHopperForward, ManyItemsOfAStep) {
  for (int seed = 1; seed <= num_trials(3); ++seed) {
    AttentionCase c = make_case("same(block(64))", {{1300, 1300, 0}}, 4, 4, 32);
    c.seed = static_cast<std::uint64_t>(seed);
    expect_right<32>(c);
    c.head_dim = 40;
    expect_right<64>(c);
  }
}

TEST(EmulatedHopperForward, NothingOfTheNextSequenceCounts) {
  for (const char* mask : {"all", "causal & every(16, 4)"}) {
    expect_apart<32>(case_of_neighbours(mask, 32));
    expect_apart<64>(case_of_neighbours(mask, 64));
  }
}

TEST(EmulatedHopperForward, MasksGroupsAndRaggedBatches) {
  for (const char* mask : {"causal & (sink(16) | window(60))", "same(block(48))",
                           "causal & every(16, 4)", "heads(0-1: causal; rest: window(30, 30))"}) {
    AttentionCase c = make_case(mask, {{150, 150, 0}, {1, 1, 0}, {40, 200, 160}}, 4, 2, 24);
    c.layout.ragged = true;
    expect_right<32>(c);
    c.head_dim = 64;
    expect_right<64>(c);
  }
  expect_right<32>(make_case("causal", {{150, 50, 0}, {150, 50, 0}}, 3, 1, 32));
}

TEST(EmulatedHopperForward, ChangedScores) {
  AttentionCase c = make_case("causal & (sink(16) | window(60))", {{150, 150, 0}}, 2, 1, 32);
  c.soft_cap = 5;
  c.alibi = true;
  expect_right<32, true>(c);
  c.head_dim = 96;
  expect_right<96, true>(c);
}

TEST(EmulatedHopperForward, RandomCases) {
  const Campaign campaign(static_cast<std::uint64_t>(num_trials(6)));
  for (std::uint64_t i = campaign.first; i < campaign.first + campaign.count; ++i) {
    SCOPED_TRACE(campaign.name(i));
    Random random(campaign.seed, i);
    AttentionCase c = random_attention_case(random);
    c.q_dtype = c.kv_dtype = DType::kBF16;
    c.page_size = 0;
    c.f32_outputs = c.without_lse = false;
    c.layout = {.ragged = true};
    c.head_dim = round_up(1 + c.head_dim % 96, 8);
    c.soft_cap != 0 || c.alibi ? expect_right_as_built<true>(c) : expect_right_as_built<false>(c);
  }
}

}  // namespace
}  // namespace perpend
