#include "perpend/schedule/schedule.h"

#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/schedule/cost.h"
#include "perpend/schedule/gpu_tiling.h"
#include "perpend/schedule/tiling_search.h"
#include "tests/campaign.h"
#include "tests/schedule/random_case.h"

namespace perpend {
namespace {

TEST(TileEntry, SaysWhatItWasMadeOf) {
  constexpr std::int32_t kBegin = (1 << 30) - 1;
  for (const std::int32_t bitmap : {TileEntry::kFull, 0, TileEntry::kMostBitmaps - 1}) {
    for (const unsigned parts : {1U, 2U, 3U}) {
      const auto same = [&](const TileEntry& entry) {
        return entry.begin == kBegin && entry.bitmap() == bitmap && entry.live_parts() == parts &&
               entry.is_full() == (bitmap == TileEntry::kFull);
      };
      TileEntry entry = TileEntry::contiguous(kBegin, bitmap, parts);
      EXPECT_TRUE(same(entry) && !entry.is_gathered());
      for (const int sub_tile : {1, 16, 64}) {
        for (const int count : {1, TileEntry::kMostSubTiles}) {
          entry =
              TileEntry::gathered(kBegin, 5, 3 - parts, static_cast<std::size_t>(count), sub_tile);
          entry.set_bitmap(bitmap);
          entry.set_live_parts(parts);
          EXPECT_TRUE(same(entry) && entry.is_gathered());
          EXPECT_EQ(entry.num_sub_tiles(), count);
          EXPECT_EQ(entry.sub_tile(), sub_tile);
        }
      }
    }
  }
}

TEST(Schedule, HoldsEachLivePairOnce) {
  Random random(1);
  for (int i = num_trials(1500); i > 0; --i) {
    const ScheduleCase c = random_schedule_case(random, i % 10 == 0 ? 200 : 40);
    for (const Sweep sweep : {Sweep::kRows, Sweep::kColumns}) {
      ASSERT_EQ(verify(compile(c.masks, c.shape, c.tiling, sweep), c.masks), "") << c;
    }
  }
}

// Every plan that the search may choose, and every step of compile() turned off.
TEST(Schedule, AnyPlanAndAnyOptionsHoldTheSame) {
  Random random(2);
  for (int i = num_trials(200); i > 0; --i) {
    const ScheduleCase c = random_schedule_case(random, 40);
    for (const Sweep sweep : {Sweep::kRows, Sweep::kColumns}) {
      const auto holds = [&](const CompileOptions& options) {
        return verify(compile(c.masks, c.shape, c.tiling, sweep, options), c.masks);
      };
      for (const PlanCandidate& candidate : plan_candidates(c.masks, c.shape, c.tiling, sweep)) {
        ASSERT_EQ(holds({.plan = candidate.plan}), "") << c;
      }
      ASSERT_EQ(holds({.search_tiling = false}), "") << c;
      ASSERT_EQ(holds({.reuse_classes = false}), "") << c;
      ASSERT_EQ(holds({.reuse_regions = false}), "") << c;
      ASSERT_EQ(holds({.reuse_lists = false}), "") << c;
      ASSERT_EQ(holds({.share_lists = false}), "") << c;
      ASSERT_EQ(holds({.sort_items = false}), "") << c;
    }
  }
}

// A GPU's tiling of tiles `times` smaller each way, of which short sequences have many.
Tiling small_gpu_tiling(int times, Sweep sweep) {
  Tiling tiling = gpu_tiling(128, sweep);
  for (int* size : {&tiling.outer_tile, &tiling.outer_part, &tiling.inner_tile}) *size /= times;
  for (int& sub_tile : tiling.sub_tiles) sub_tile /= times;
  return tiling;
}

// Lists that are written down from those like them are what would have been made.
TEST(Schedule, ListsLikeOthersAreTheSameWhenMade) {
  Random random(9);
  for (int i = num_trials(600); i > 0; --i) {
    const bool is_long = i % 8 == 0;
    ScheduleCase c = random_schedule_case(random, is_long ? 4000 : 200);
    for (const Sweep sweep : {Sweep::kRows, Sweep::kColumns}) {
      if (is_long) c.tiling = small_gpu_tiling(i % 16 == 0 ? 1 : 4, sweep);
      const Schedule reused = compile(c.masks, c.shape, c.tiling, sweep);
      const Schedule made = compile(c.masks, c.shape, c.tiling, sweep, {.reuse_lists = false});
      ASSERT_EQ(concat(reused), concat(made)) << c;
    }
  }
}

// The plan of a sequence, and with it the order of every sum, is its own affair.
TEST(Schedule, BatchMatesChangeNoPlan) {
  Random random(8);
  for (int i = num_trials(300); i > 0; --i) {
    const ScheduleCase c = random_schedule_case(random, 60);
    for (const Sweep sweep : {Sweep::kRows, Sweep::kColumns}) {
      const Schedule together = compile(c.masks, c.shape, c.tiling, sweep);
      for (std::size_t s = 0; s < c.shape.sequences.size(); ++s) {
        const AttentionShape alone{
            {c.shape.sequences[s]}, c.shape.num_q_heads, c.shape.num_kv_heads};
        const Mask& mask = c.masks[c.masks.size() == 1 ? 0 : s];
        ASSERT_EQ(compile(mask, alone, c.tiling, sweep).plan, together.plans[s]) << c;
      }
    }
  }
}

TEST(Schedule, VerifyFindsWhatIsWrong) {
  const Mask mask = Mask::causal();
  const AttentionShape shape{{{20, 20, 0}}, 2, 1};
  const Schedule right = compile(mask, shape, plain_tiling(8, 8));
  Schedule wrong = right;
  wrong.entries.front().begin += 8;
  EXPECT_NE(verify(wrong, mask), "");
  wrong = right;
  wrong.items.pop_back();
  EXPECT_NE(verify(wrong, mask), "");
  EXPECT_NE(verify(right, Mask::all()), "");
  wrong = right;
  wrong.entries.front().set_live_parts(0);
  EXPECT_NE(verify(wrong, mask), "");
  wrong = right;
  wrong.entries.front().set_bitmap(TileEntry::kFull);
  EXPECT_NE(verify(wrong, mask), "");
}

TEST(Schedule, EqualTilesShareBitmaps) {
  const AttentionShape shape{{{1024, 1024, 0}}, 1, 1};
  EXPECT_EQ(compile(Mask::causal(), shape, plain_tiling(64, 64)).bitmaps.count(), 1);
  EXPECT_EQ(
      compile(parse_mask("causal & window(100)"), shape, plain_tiling(64, 64)).bitmaps.count(), 3);
  EXPECT_EQ(compile(Mask::all(), shape, plain_tiling(64, 64)).bitmaps.count(), 0);
}

TEST(Schedule, SequencesAndHeadsShareLists) {
  AttentionShape shape{{{128, 128, 0}, {128, 128, 0}, {128, 128, 0}}, 8, 2};
  const Schedule schedule = compile(Mask::causal(), shape, plain_tiling(64, 64));
  EXPECT_EQ(schedule.lists.size(), 2U);
  EXPECT_EQ(schedule.items.size(), 3U * 2U * 2U);
  for (std::size_t i = 1; i < schedule.items.size(); ++i) {
    EXPECT_GE(list_cost(schedule, schedule.items[i - 1].list),
              list_cost(schedule, schedule.items[i].list));
  }
}

TEST(Schedule, HeadsThatDifferHaveListsOfTheirOwn) {
  const Mask mask = parse_mask("heads(0: causal; rest: all)");
  const AttentionShape shape{{{64, 64, 0}}, 6, 2};
  const Schedule rows = compile(mask, shape, plain_tiling(64, 64), Sweep::kRows);
  EXPECT_EQ(verify(rows, mask), "");
  EXPECT_EQ(rows.lists.size(), 2U);
  EXPECT_EQ(rows.items.size(), 3U);  // head 0, heads 1-2, heads 3-5
  const Schedule columns = compile(mask, shape, plain_tiling(64, 64), Sweep::kColumns);
  EXPECT_EQ(verify(columns, mask), "");
  ASSERT_EQ(columns.items.size(), 2U);  // an item sums over a group
  for (const WorkItem& item : columns.items) {
    EXPECT_EQ(item.num_heads, 3);
    EXPECT_EQ(item.list_stride, item.q_head == 0 ? 1 : 0);
  }
}

TEST(Schedule, PackedHeadsShareTheRowsOfATile) {
  const Mask mask = parse_mask("same(block(160))");
  const Schedule packed =
      compile(mask, {{{1600, 1600, 0}}, 8, 2}, gpu_tiling(128, Sweep::kRows), Sweep::kRows);
  EXPECT_TRUE(packed.plan.packed);
  EXPECT_EQ(packed.plan.outer_tile, 32);
  EXPECT_EQ(packed.rows_of_part(packed.items.front()), 64);
  // Heads that see different keys can not be packed.
  const Mask differs = parse_mask("same(block(160)) & every(1, 2, 1) | heads(0: all; rest: none)");
  const Schedule apart =
      compile(differs, {{{320, 320, 0}}, 8, 2}, gpu_tiling(128, Sweep::kRows), Sweep::kRows);
  EXPECT_FALSE(apart.plan.packed);
  EXPECT_EQ(verify(apart, differs), "");
}

TEST(Schedule, DecodeStepsNeedNoBitmap) {
  const Schedule schedule = compile(Mask::causal(), {{{1, 1000, 999}}, 9, 3}, plain_tiling(64, 64));
  EXPECT_EQ(schedule.bitmaps.count(), 0);
  EXPECT_EQ(schedule.entries.size(), 16U);
  EXPECT_EQ(schedule.items.size(), 3U);
}

TEST(Schedule, CostCountsPairs) {
  const Schedule schedule = compile(Mask::causal(), {{{100, 100, 0}}, 1, 1}, plain_tiling(64, 64));
  const ScheduleCost cost = cost_of(schedule);
  EXPECT_EQ(cost.live_pairs, 100 * 101 / 2);
  EXPECT_EQ(cost.total_pairs, 100 * 100);
  EXPECT_EQ(cost.full_tiles, 1);
  EXPECT_EQ(cost.partial_tiles, 2);
  EXPECT_EQ(cost.computed_pairs, 3 * 64 * 64);
  EXPECT_EQ(cost.flops(32), 4.0 * 32 * 100 * 101 / 2);
}

// The live pairs of any plan are those of the mask, over all heads and sequences.
TEST(Schedule, CostCountsTheLivePairsOfEveryHead) {
  Random random(5);
  for (int i = num_trials(200); i > 0; --i) {
    const ScheduleCase c = random_schedule_case(random, 40);
    std::int64_t live = 0;
    for (std::size_t s = 0; s < c.shape.sequences.size(); ++s) {
      const SequenceShape& sequence = c.shape.sequences[s];
      for (int head = 0; head < c.shape.num_q_heads; ++head) {
        const BoundMask mask(c.masks[c.masks.size() == 1 ? 0 : s],
                             {head, head / c.shape.group_size()});
        for (std::int64_t q = 0; q < sequence.q_len; ++q) {
          for (std::int64_t k = 0; k < sequence.kv_len; ++k) {
            live += mask.visible(sequence.q_offset + q, k) ? 1 : 0;
          }
        }
      }
    }
    for (const Sweep sweep : {Sweep::kRows, Sweep::kColumns}) {
      const ScheduleCost cost = cost_of(compile(c.masks, c.shape, c.tiling, sweep));
      ASSERT_EQ(cost.live_pairs, live) << c;
      ASSERT_GE(cost.computed_pairs, live) << c;
    }
  }
}

TEST(Schedule, ShapesThatMakeNoSenseAreRefused) {
  EXPECT_THROW(compile(Mask::all(), {{{1, 1, 0}}, 3, 2}, plain_tiling(64, 64)), InvalidArgument);
  EXPECT_THROW(compile(Mask::all(), {{{-1, 1, 0}}, 1, 1}, plain_tiling(64, 64)), InvalidArgument);
  EXPECT_THROW(compile(Mask::all(), {{{1, 1, 0}}, 1, 1}, plain_tiling(0, 64)), InvalidArgument);
  Tiling tiling = plain_tiling(64, 64);
  tiling.sub_tiles = {24, 0, 0, 0};
  EXPECT_THROW(compile(Mask::all(), {{{1, 1, 0}}, 1, 1}, tiling), InvalidArgument);
  tiling = plain_tiling(64, 64);
  tiling.outer_part = 16;
  EXPECT_THROW(compile(Mask::all(), {{{1, 1, 0}}, 1, 1}, tiling), InvalidArgument);
  const std::vector<Mask> two = {Mask::all(), Mask::all()};
  EXPECT_THROW(compile(two, {{{1, 1, 0}}, 1, 1}, plain_tiling(64, 64)), InvalidArgument);
  EXPECT_THROW(compile(parse_mask("same(doc)"), {{{1, 1, 0}}, 1, 1}, plain_tiling(64, 64)),
               InvalidArgument);
  EXPECT_THROW(compile(parse_mask("same(segments(3))"), {{{4, 4, 0}}, 1, 1}, plain_tiling(64, 64)),
               InvalidArgument);
}

}  // namespace
}  // namespace perpend
