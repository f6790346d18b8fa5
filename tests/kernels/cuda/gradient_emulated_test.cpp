// The backward kernels as their sources stand, run by an emulated GPU, against the f64 reference:
// on any machine, without a GPU or its compiler.

#include <array>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/kernels/reference/attention_expectation.h"
#include "perpend/schedule/gpu_tiling.h"
#include "tests/campaign.h"
#include "tests/kernels/cuda/emulated/emulated_backward.h"
#include "tests/kernels/cuda/emulated/emulated_block_plan.h"
#include "tests/parity/random_attention_case.h"

namespace perpend {
namespace {

struct Images {
  ScheduleImage rows;
  ColumnImage columns;
};

Images compiled_images(const AttentionCase& c) {
  const auto head_dim = static_cast<int>(c.head_dim);
  const auto compiled = [&](Sweep sweep) {
    return compile(c.masks, c.shape, gpu_tiling(head_dim, sweep), sweep);
  };
  return {make_schedule_image(compiled(Sweep::kRows), head_dim),
          make_column_image(compiled(Sweep::kColumns), head_dim)};
}

// Forward on the CPU, then run(backward) on the emulated GPU.
template <class Run>
void expect_right(const AttentionCase& c, Images images, Run run) {
  ThreadPool threads;
  AttentionBackend cpu = attention_backends().front();
  cpu.table.backward = nullptr;
  AttentionCall call(c);
  AttentionOutputs outputs = call.run(cpu, plan(c, cpu.table), threads);
  const AttentionGradArgs args = call.gradient_arguments(outputs);
  EmulatedBackward backward(args, c.shape, std::move(images.rows), std::move(images.columns),
                            c.seed);
  run(backward);
  for (const Deviation& d : AttentionExpectation(call, true, threads).compare(outputs)) {
    EXPECT_TRUE(d.holds()) << c << "\n  " << d;
    if (d.output == AttentionOutput::kLse) continue;
    EXPECT_LT(d.total_error, 1e-2) << c << "\n  " << d;
  }
}
template <class Run>
void expect_right(const AttentionCase& c, Run run) {
  expect_right(c, compiled_images(c), run);
}

// The second sequence may hold anything.
template <class Run>
void expect_apart(const AttentionCase& c, Run run) {
  ThreadPool threads;
  AttentionBackend cpu = attention_backends().front();
  cpu.table.backward = nullptr;
  AttentionCall call(c);
  const auto run_once = [&](bool poisoned) {
    AttentionOutputs outputs = call.run(cpu, plan(c, cpu.table), threads);
    const AttentionGradArgs args = call.gradient_arguments(outputs);
    const auto& sequences = c.shape.sequences;
    for (const TensorView& view : {args.forward.q, args.d_o}) {
      if (poisoned) poison(view, sequences[0].q_len, sequences[0].q_len + sequences[1].q_len);
    }
    for (const TensorView& view : {args.forward.k, args.forward.v}) {
      if (poisoned) poison(view, sequences[0].kv_len, sequences[0].kv_len + sequences[1].kv_len);
    }
    Images images = compiled_images(c);
    EmulatedBackward backward(args, c.shape, std::move(images.rows), std::move(images.columns),
                              c.seed);
    run(backward);
    return outputs;
  };
  const AttentionOutputs expected = run_once(false);
  const AttentionOutputs found = run_once(true);
  for (const std::size_t s : {0, 2}) {
    EXPECT_EQ(found.dq.row_bytes(s), expected.dq.row_bytes(s)) << c << ", dq of " << s;
    EXPECT_EQ(found.dk.row_bytes(s), expected.dk.row_bytes(s)) << c << ", dk of " << s;
    EXPECT_EQ(found.dv.row_bytes(s), expected.dv.row_bytes(s)) << c << ", dv of " << s;
  }
}

// By the kernels that the library takes.
template <bool kChanges>
void run_as_built(EmulatedBackward& backward, std::int64_t head_dim) {
  if (head_dim <= 32) return backward.run_hopper<32, kChanges>();
  if (head_dim <= 64) return backward.run_hopper<64, kChanges>();
  backward.run_hopper<128, kChanges>();
}

template <int kHeadDim, bool kChanges = false>
void expect_hopper_right(const AttentionCase& c) {
  expect_right(c, [](EmulatedBackward& b) { b.run_hopper<kHeadDim, kChanges>(); });
}

// dq as CTAs come to add to it.
template <int kHeadDim>
void expect_fused_right(AttentionCase c) {
  c.layout.ragged = true;
  expect_right(c, [](EmulatedBackward& b) { b.run_fused<kHeadDim>(); });
}
// dq in turns, or as they come where steps that begin anywhere do not allow that.
template <int kHeadDim>
void expect_ordered_right(AttentionCase c, bool has_turns = true) {
  c.layout.ragged = true;
  expect_right(c, [&](EmulatedBackward& b) {
    if (b.run_ordered<kHeadDim>()) return;
    EXPECT_FALSE(has_turns);
    b.run_fused<kHeadDim>();
  });
}

constexpr std::array kKindsOfMasks = {"causal & (sink(16) | window(60))", "same(block(48))",
                                      "causal & every(16, 4)", "causal & ~window(100)",
                                      "heads(0-1: causal; rest: window(30, 30))"};

TEST(EmulatedGpu, FindsThreadsThatCanNotGoOn) {
  constexpr std::uint32_t kBarrier = 16;
  const auto kernel = [] {
    if (threadIdx.x == 0) device::barrier_init(kBarrier, 2);
    __syncthreads();
    if (threadIdx.x < 32) device::barrier_wait(kBarrier, 0);
    if (threadIdx.x == 40) device::barrier_arrive(kBarrier);
  };
  EXPECT_THAT(
      [&] { device::run_emulated(1, 64, 1, kernel); },
      testing::ThrowsMessage<std::runtime_error>(testing::HasSubstr("0 to 31: the barrier at 16")));
}

TEST(EmulatedHopperGradient, DenseAndCausal) {
  expect_hopper_right<64>(make_case("all", {{128, 128, 0}}, 1, 1, 64));
  expect_hopper_right<64>(make_case("causal", {{300, 300, 0}}, 1, 1, 64));
  expect_hopper_right<128>(make_case("causal", {{200, 200, 0}}, 1, 1, 128));
  expect_hopper_right<128>(make_case("all", {{40, 70, 0}}, 1, 1, 72));
}

TEST(EmulatedHopperGradient, ManyItemsOfOneStep) {
  for (int seed = 1; seed <= num_trials(5); ++seed) {
    AttentionCase c = make_case("all", {{700, 20, 0}}, 1, 1, 8);
    c.seed = static_cast<std::uint64_t>(seed);
    expect_hopper_right<32>(c);
    c.head_dim = 40;
    expect_hopper_right<64>(c);
  }
}

TEST(EmulatedHopperGradient, NarrowHeads) {
  expect_hopper_right<32>(make_case("causal", {{300, 300, 0}}, 1, 1, 32));
  for (const char* mask : {"same(block(64))", "same(block(48))", "causal & every(16, 4)"}) {
    AttentionCase c = make_case(mask, {{150, 150, 0}, {1, 1, 0}, {40, 200, 160}}, 4, 2, 32);
    c.layout.ragged = true;
    expect_hopper_right<32>(c);
  }
  expect_hopper_right<32>(make_case("causal", {{150, 50, 0}, {150, 50, 0}}, 3, 1, 24));
  // As many items as are known in advance.
  expect_hopper_right<32>(make_case("same(block(64))", {{640, 640, 0}}, 8, 8, 16));
}

TEST(EmulatedHopperGradient, NothingOfTheNextSequenceCounts) {
  expect_apart(case_of_neighbours("causal & every(16, 4)", 32),
               [](EmulatedBackward& b) { b.run_hopper<32, false>(); });
  expect_apart(case_of_neighbours("all", 64),
               [](EmulatedBackward& b) { b.run_hopper<64, false>(); });
  expect_apart(case_of_neighbours("causal", 64),
               [](EmulatedBackward& b) { b.run_hopper<64, true>(); });
}

TEST(EmulatedFusedGradient, NothingOfTheNextSequenceCounts) {
  expect_apart(case_of_neighbours("causal & every(16, 4)", 64),
               [](EmulatedBackward& b) { b.run_fused<64>(); });
  expect_apart(case_of_neighbours("all", 64),
               [](EmulatedBackward& b) { EXPECT_TRUE(b.run_ordered<64>()); });
}

TEST(EmulatedPortableGradient, NothingOfTheNextSequenceCounts) {
  AttentionCase c = make_case("all", {{20, 30, 10}, {10, 10, 0}, {20, 20, 0}}, 2, 1, 50);
  c.layout.ragged = true;
  expect_apart(c, [](EmulatedBackward& b) { b.run_portable<64>(); });
}

TEST(EmulatedHopperGradient, MasksGroupsAndRaggedBatches) {
  for (const char* mask : kKindsOfMasks) {
    AttentionCase c = make_case(mask, {{150, 150, 0}, {1, 1, 0}, {40, 200, 160}}, 4, 2, 64);
    c.layout.ragged = true;
    expect_hopper_right<64>(c);
  }
  expect_hopper_right<64>(make_case("causal", {{150, 50, 0}, {150, 50, 0}}, 3, 1, 64));
}

TEST(EmulatedHopperGradient, ChangedScores) {
  AttentionCase c = make_case("causal & (sink(16) | window(60))", {{150, 150, 0}}, 2, 1, 64);
  c.soft_cap = 5;
  expect_hopper_right<64, true>(c);
  c.alibi = true;
  expect_hopper_right<64, true>(c);
  c.head_dim = 32;
  expect_hopper_right<32, true>(c);
}

TEST(EmulatedFusedGradient, DenseAndCausal) {
  expect_fused_right<64>(make_case("all", {{128, 128, 0}}, 1, 1, 64));
  expect_ordered_right<64>(make_case("causal", {{300, 300, 0}}, 1, 1, 64));
  expect_fused_right<128>(make_case("causal", {{200, 200, 0}}, 1, 1, 128));
  expect_ordered_right<128>(make_case("causal", {{200, 200, 0}}, 1, 1, 128));
  expect_fused_right<128>(make_case("all", {{40, 70, 0}}, 1, 1, 72));
}

TEST(EmulatedFusedGradient, ManyItemsOfOneStep) {
  for (int seed = 1; seed <= num_trials(5); ++seed) {
    AttentionCase c = make_case("all", {{20, 700, 0}}, 1, 1, 40);
    c.seed = static_cast<std::uint64_t>(seed);
    seed % 2 == 0 ? expect_fused_right<64>(c) : expect_ordered_right<64>(c);
  }
}

TEST(EmulatedFusedGradient, MasksGroupsAndRaggedBatches) {
  for (const char* mask : kKindsOfMasks) {
    const AttentionCase c = make_case(mask, {{150, 150, 0}, {1, 1, 0}, {40, 200, 160}}, 4, 2, 64);
    expect_fused_right<64>(c);
  }
  for (const char* mask : {kKindsOfMasks[0], kKindsOfMasks[1], kKindsOfMasks[4]}) {
    expect_ordered_right<64>(make_case(mask, {{150, 150, 0}, {40, 200, 160}}, 4, 2, 64));
  }
}

// Whoever comes first.
TEST(EmulatedFusedGradient, TurnsGiveTheSameBitsInEveryRun) {
  AttentionCase c = make_case("causal", {{300, 300, 0}}, 1, 1, 64);
  c.layout.ragged = true;
  ThreadPool threads;
  AttentionBackend cpu = attention_backends().front();
  cpu.table.backward = nullptr;
  AttentionCall call(c);
  const auto sums = [&](std::uint64_t seed) {
    AttentionOutputs outputs = call.run(cpu, plan(c, cpu.table), threads);
    const AttentionGradArgs args = call.gradient_arguments(outputs);
    Images images = compiled_images(c);
    EmulatedBackward backward(args, c.shape, std::move(images.rows), std::move(images.columns), 1);
    EXPECT_TRUE(backward.run_ordered<64>(seed));
    return backward.sums();
  };
  const std::vector<float> expected = sums(1);
  const auto most = static_cast<std::uint64_t>(num_trials(4));
  for (std::uint64_t seed = 2; seed < 2 + most; ++seed) EXPECT_EQ(sums(seed), expected);
}

// Part 1 alone is live in a step without a bitmap of its own, and keys of the next sequence stand
// behind its 36.
TEST(EmulatedFusedGradient, KeysBehindTheEndOfAPart) {
  expect_fused_right<64>(make_case("same(block(64))", {{128, 100, 0}, {128, 100, 0}}, 1, 1, 64));
}

TEST(EmulatedPortableGradient, MasksGroupsAndRaggedBatches) {
  for (const char* mask : {"causal & (sink(16) | window(60))", "causal & every(16, 4)"}) {
    AttentionCase c = make_case(mask, {{20, 20, 0}, {20, 70, 50}}, 2, 1, 50);
    c.layout.ragged = true;
    c.alibi = true;
    c.soft_cap = 5;
    expect_right(c, [](EmulatedBackward& b) { b.run_portable<64>(); });
  }
  expect_right(make_case("causal", {{20, 20, 0}}, 1, 1, 256),
               [](EmulatedBackward& b) { b.run_portable<256>(); });
}

// Over lists of blocks, planned by the kernels that do it on a device.
void expect_block_gradients_right(BlockAttentionSpec spec, std::uint64_t seed) {
  spec.gradients = true;
  BlockCase c{spec, {}, {}};
  Random random(seed);
  fill_lists(c, random);
  const EmulatedPlan plan(c, seed);
  const auto by = [&](auto run) {
    expect_right(c.attention_case(), {plan.rows(), plan.columns()}, run);
  };
  by([](EmulatedBackward& b) { b.run_hopper<64, false>(); });
  if (spec.batch == 1) by([](EmulatedBackward& b) { b.run_fused<64>(); });
}

TEST(EmulatedBlockGradient, ListsOfBlocks) {
  BlockAttentionSpec spec;
  spec.attention = {DType::kBF16, DType::kBF16, 64, false};
  spec.q_len = spec.kv_len = 200;
  for (const std::int64_t block : {16, 64, 128}) {
    spec.q_block = spec.kv_block = block;
    spec.max_blocks = 200 / block;
    spec.causal = block != 128;
    expect_block_gradients_right(spec, 1);
  }
  spec.q_block = 16;
  spec.kv_block = 64;
  spec.max_blocks = 3;
  spec.causal = true;
  expect_block_gradients_right(spec, 3);
  // Heads of a group with lists of their own, and one list for all.
  spec.batch = 2;
  spec.num_q_heads = 4;
  spec.num_kv_heads = 2;
  spec.kv_block = 32;
  for (const int list_heads : {1, 4}) {
    spec.num_list_heads = list_heads;
    expect_block_gradients_right(spec, 2);
  }
}

TEST(EmulatedBlockGradient, PortableKernels) {
  BlockAttentionSpec spec;
  spec.attention = {DType::kBF16, DType::kBF16, 200, false};
  spec.q_len = 40;
  spec.kv_len = 140;
  spec.q_block = 24;
  spec.kv_block = 64;
  spec.max_blocks = 2;
  spec.gradients = true;
  BlockCase c{spec, {}, {}};
  Random random(1);
  fill_lists(c, random);
  const EmulatedPlan plan(c, 1);
  expect_right(c.attention_case(), {plan.rows(), plan.columns()},
               [](EmulatedBackward& b) { b.run_portable<256>(); });
}

TEST(EmulatedHopperGradient, RandomCases) {
  const Campaign campaign(static_cast<std::uint64_t>(num_trials(6)));
  for (std::uint64_t i = campaign.first; i < campaign.first + campaign.count; ++i) {
    SCOPED_TRACE(campaign.name(i));
    Random random(campaign.seed, i);
    AttentionCase c = random_attention_case(random);
    c.q_dtype = c.kv_dtype = DType::kBF16;
    c.page_size = 0;
    c.f32_outputs = c.without_lse = false;
    c.layout.ragged = true;
    c.head_dim = 1 + c.head_dim % 128;
    expect_right(c, [&](EmulatedBackward& b) {
      c.soft_cap != 0 || c.alibi ? run_as_built<true>(b, c.head_dim)
                                 : run_as_built<false>(b, c.head_dim);
    });
    if (c.head_dim <= 32 || c.soft_cap != 0 || c.alibi) continue;
    if (i % 2 == 0) {
      c.head_dim <= 64 ? expect_fused_right<64>(c) : expect_fused_right<128>(c);
    } else {
      c.head_dim <= 64 ? expect_ordered_right<64>(c, false) : expect_ordered_right<128>(c, false);
    }
  }
}

}  // namespace
}  // namespace perpend
