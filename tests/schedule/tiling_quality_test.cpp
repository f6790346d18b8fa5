#include <cstdlib>
#include <iostream>
#include <map>

#include <gtest/gtest.h>

#include "perpend/schedule/cost.h"
#include "perpend/schedule/gpu_tiling.h"
#include "perpend/workloads/workload.h"

namespace perpend {
namespace {

// Inner positions with a live pair in any of the outer positions `outer`.
std::int64_t live_columns(const BoundMask& mask, Sweep sweep, Range outer, Range inner) {
  std::int64_t count = 0;
  for (std::int64_t begin = inner.begin; begin < inner.end;) {
    const auto part = mask.stretch(sweep, outer, {begin, inner.end});
    if (part.answer == Answer::kAll) count += part.end - begin;
    for (; part.answer == Answer::kSome && begin < part.end; begin += 64) {
      std::uint64_t live = 0;
      for (std::int64_t q = outer.begin; q < outer.end; ++q) live |= mask.word(sweep, q, begin);
      if (part.end - begin < 64) live &= (std::uint64_t{1} << (part.end - begin)) - 1;
      count += std::popcount(live);
    }
    begin = part.end;
  }
  return count;
}

// The best that any packing of single columns into steps could reach, with the items as they are:
// each half takes as many steps as its live columns fill.
double bound_of(const Schedule& schedule, const Mask& mask) {
  const TilePlan& plan = schedule.plan;  // the same for all sequences
  std::int64_t computed = 0;
  for (const WorkItem& item : schedule.items) {
    const SequenceShape& sequence =
        schedule.shape.sequences[static_cast<std::size_t>(item.sequence)];
    const BoundMask bound(mask, {item.q_head, item.q_head / schedule.shape.group_size()});
    for (int row = 0; row < item.size; row += plan.outer_part) {
      const std::int64_t begin = sequence.q_offset + item.begin + row;
      const Range outer{begin, begin + std::min(plan.outer_part, item.size - row)};
      const std::int64_t columns = live_columns(bound, schedule.sweep, outer, {0, sequence.kv_len});
      computed += round_up(columns, plan.inner_tile) * schedule.rows_of_part(item);
    }
  }
  return static_cast<double>(cost_of(schedule).live_pairs) / static_cast<double>(computed);
}

// Live / computed pairs, where computed counts 64-row halves that are not skipped times 128 columns
// with all padding, on the tiles of a GPU.
//
// Why the floors can be reached. Documents: four heads of a group packed make 32 positions fill 128
// rows, tiles begin with each document's first token. Strided blocks: the blocks that both halves
// see go first, two a step, those of one half alone behind them. Sink and window: sub-tiles at both
// ends of the window are needed by one half alone and share a step. Windows of 64 keys fill half of
// a step of 128 keys: 0.5 is the bound there.
TEST(TilingQuality, ReachesItsFloorOnEveryWorkload) {
  const std::map<std::string, double> floors = {
      {"dense_16k_d128", 1.0},
      {"causal_16k_d128", 0.99},
      {"causal_4k_d64", 0.96},
      {"sink_window_32k", 0.89},
      {"sink_window_128k", 0.93},
      {"strided_blocks_32k", 0.90},
      {"strided_blocks_128k", 0.88},
      {"block_causal_32", 0.97},
      {"block_diffusion_train_2x4k_b32", 0.94},
      {"documents_100x160", 0.84},
      {"documents_500x200", 0.72},
      {"frame_causal_144x32", 0.95},
      {"window2d_8_side256", 0.5},
  };
  for (const Workload& workload : read_workloads("gpu_bf16")) {
    const Schedule schedule = compile(workload.mask, workload.shape,
                                      gpu_tiling(workload.head_dim, Sweep::kRows), Sweep::kRows);
    const double reached = cost_of(schedule).efficiency();
    // Walks every pair of undecided regions, too slow under sanitizers.
    const bool is_short = std::getenv("PERPEND_SHORT") != nullptr;
    const double bound = is_short ? 1.0 : bound_of(schedule, workload.mask);
    std::cout << workload.name << ": " << reached << " (bound " << bound << "), " << schedule.plan
              << "\n";
    ASSERT_TRUE(floors.contains(workload.name)) << workload.name;
    EXPECT_GE(reached, floors.at(workload.name)) << workload.name;
    EXPECT_LE(reached, bound + 1e-9) << workload.name;
  }
}

TEST(TilingQuality, WindowsOf64KeysFillStepsOf64Keys) {
  Tiling tiling = gpu_tiling(32, Sweep::kRows);
  tiling.inner_tile = 64;
  tiling.sub_tiles = {};
  const Schedule schedule =
      compile(parse_mask("same(block(64))"), {{{65536, 65536, 0}}, 8, 8}, tiling);
  EXPECT_EQ(cost_of(schedule).efficiency(), 1.0);
}

// The search prefers what the device measured as faster.
TEST(TilingQuality, CostsRankPlansAsTheDeviceDoes) {
  const auto chosen = [](const char* mask, std::int64_t length, int heads, int kv_heads) {
    return compile(parse_mask(mask), {{{length, length, 0}}, heads, kv_heads},
                   gpu_tiling(128, Sweep::kRows))
        .plan;
  };
  // Nothing to gain from sub-tiles.
  EXPECT_EQ(chosen("causal", 16384, 16, 16).sub_tile, 128);
  // Blocks of 64 keys: sub-tiles of 64, no smaller.
  EXPECT_EQ(chosen("causal & (near(64, 16) | every(64, 16))", 32768, 1, 1).sub_tile, 64);
  // Seven heads a group leave one of 64 rows unused when packed.
  EXPECT_FALSE(chosen("upto(block(32))", 4096, 28, 4).packed);
  // Segments of 160 tokens: packed heads fill tiles of 32 tokens.
  EXPECT_TRUE(chosen("same(block(160))", 16000, 32, 8).packed);
  // Segments that no grid meets, each of them a tile.
  EXPECT_TRUE(chosen("same(block(100))", 20000, 8, 8).aligned);
}

}  // namespace
}  // namespace perpend
