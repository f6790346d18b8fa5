#include "perpend/ops/schedule_cache.h"

#include <thread>

#include <gtest/gtest.h>

#include "perpend/core/error.h"

namespace perpend {
namespace {

AttentionShape shape_of(std::int64_t length) { return {{{length, length, 0}}, 1, 1}; }

TEST(ScheduleCache, ReturnsTheSameScheduleForTheSameKey) {
  ScheduleCache cache;
  const Tiling tiling = plain_tiling(16, 16);
  const auto first = cache.get(Mask::causal(), shape_of(40), tiling);
  EXPECT_EQ(verify(*first, Mask::causal()), "");
  EXPECT_EQ(cache.get(parse_mask("causal"), shape_of(40), tiling), first);
  EXPECT_NE(cache.get(Mask::all(), shape_of(40), tiling), first);
  EXPECT_NE(cache.get(Mask::causal(), shape_of(41), tiling), first);
  EXPECT_NE(cache.get(Mask::causal(), shape_of(40), plain_tiling(16, 32)), first);
  EXPECT_NE(cache.get(Mask::causal(), shape_of(40), tiling, Sweep::kColumns), first);
  EXPECT_EQ(cache.get(Mask::causal(), shape_of(40), tiling), first);
}

TEST(ScheduleCache, TellsMasksOfSequencesApart) {
  ScheduleCache cache;
  const AttentionShape shape{{{9, 9, 0}, {9, 9, 0}}, 1, 1};
  const std::vector<Mask> masks = {Mask::causal(), Mask::all()};
  const std::vector<Mask> swapped = {Mask::all(), Mask::causal()};
  const auto first = cache.get(masks, shape, plain_tiling(4, 4));
  EXPECT_EQ(verify(*first, masks), "");
  EXPECT_EQ(cache.get(masks, shape, plain_tiling(4, 4)), first);
  EXPECT_EQ(verify(*cache.get(swapped, shape, plain_tiling(4, 4)), swapped), "");
}

TEST(ScheduleCache, ForgetsTheLeastRecentlyUsed) {
  ScheduleCache cache(2);
  const Tiling tiling = plain_tiling(16, 16);
  const auto first = cache.get(Mask::causal(), shape_of(1), tiling);
  const auto second = cache.get(Mask::causal(), shape_of(2), tiling);
  EXPECT_EQ(cache.get(Mask::causal(), shape_of(1), tiling), first);
  cache.get(Mask::causal(), shape_of(3), tiling);
  EXPECT_EQ(cache.get(Mask::causal(), shape_of(1), tiling), first);
  EXPECT_NE(cache.get(Mask::causal(), shape_of(2), tiling), second);
}

TEST(ScheduleCache, KeepsNothingOfWhatIsRefused) {
  ScheduleCache cache;
  EXPECT_THROW(cache.get(Mask::causal(), {{{1, 1, 0}}, 3, 2}, plain_tiling(4, 4)), InvalidArgument);
}

TEST(ScheduleCache, ServesSeveralThreads) {
  ScheduleCache cache(3);
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&cache] {
      for (std::int64_t i = 0; i < 200; ++i) {
        const auto schedule = cache.get(Mask::causal(), shape_of(1 + i % 5), plain_tiling(4, 4));
        EXPECT_EQ(schedule->shape, shape_of(1 + i % 5));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace perpend
