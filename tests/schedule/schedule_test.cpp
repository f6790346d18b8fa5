#include "perpend/schedule/schedule.h"

#include <chrono>

#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/schedule/cost.h"
#include "tests/campaign.h"
#include "tests/mask/random_mask.h"

namespace perpend {
namespace {

AttentionShape random_shape(Random& random) {
  AttentionShape shape;
  const auto below = [&](std::uint64_t bound) {
    return static_cast<std::int64_t>(random.next_below(bound));
  };
  for (std::int64_t i = 1 + below(3); i > 0; --i) {
    shape.sequences.push_back({below(40), below(60), below(30)});
  }
  if (below(2) == 0) shape.sequences.push_back(shape.sequences.front());
  shape.num_kv_heads = static_cast<int>(1 + below(2));
  shape.num_q_heads = shape.num_kv_heads * static_cast<int>(1 + below(3));
  return shape;
}

TEST(Schedule, HoldsEachLivePairOnce) {
  Random random(1);
  for (int i = num_trials(2000); i > 0; --i) {
    const Mask mask = random_mask(random, 40);
    const AttentionShape shape = random_shape(random);
    const Tiling tiling = plain_tiling(static_cast<int>(1 + random.next_below(17)),
                                       static_cast<int>(1 + random.next_below(80)));
    for (const Sweep sweep : {Sweep::kRows, Sweep::kColumns}) {
      EXPECT_EQ(verify(compile(mask, shape, tiling, sweep), mask), "") << mask;
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
  EXPECT_EQ(cost.computed_pairs, 64 * 64 + 36 * 64 + 36 * 36);
}

// Work follows live tiles, not the square of the length: a million tokens take no more than a
// thousand times a thousand tokens, with room for a slow machine.
TEST(Schedule, AMillionTokensCompileQuickly) {
  const Mask mask = parse_mask("causal & (sink(64) | window(1024))");
  const std::int64_t length = 1 << 20;
  const auto start = std::chrono::steady_clock::now();
  const Schedule schedule = compile(mask, {{{length, length, 0}}, 1, 1}, plain_tiling(64, 64));
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_LT(schedule.bitmaps.count(), 10);
  EXPECT_LT(schedule.entries.size(), 400000U);
  EXPECT_LT(seconds.count(), 10.0);
  RecordProperty("milliseconds", static_cast<int>(seconds.count() * 1e3));
}

TEST(Schedule, ShapesThatMakeNoSenseAreRefused) {
  EXPECT_THROW(compile(Mask::all(), {{{1, 1, 0}}, 3, 2}, plain_tiling(64, 64)), InvalidArgument);
  EXPECT_THROW(compile(Mask::all(), {{{-1, 1, 0}}, 1, 1}, plain_tiling(64, 64)), InvalidArgument);
  EXPECT_THROW(compile(Mask::all(), {{{1, 1, 0}}, 1, 1}, plain_tiling(0, 64)), InvalidArgument);
}

}  // namespace
}  // namespace perpend
