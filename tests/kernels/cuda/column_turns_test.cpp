// The order in which CTAs add to dq: that it is one, that nobody waits for whom it waits for, and
// how much waiting it is thought to cost.

#include "perpend/kernels/cuda/column_turns.h"

#include <algorithm>
#include <array>
#include <map>
#include <span>
#include <tuple>

#include <gtest/gtest.h>

#include "perpend/mask/mask_parser.h"
#include "perpend/schedule/gpu_tiling.h"
#include "tests/campaign.h"
#include "tests/parity/random_attention_case.h"

namespace perpend {
namespace {

using device::KeyItem;
using device::KeyStep;
using device::kStepStrips;
using device::kStripQueries;
using device::QueryTurns;
using device::Step;

// An H100 with a head_dim of 128.
constexpr TurnTakers kGpu = {132, (25 << 20) / 1024};
constexpr double kAny = 1e9;

ColumnImage image_of(const Mask& mask, const AttentionShape& shape) {
  return make_column_image(compile(mask, shape, gpu_tiling(128, Sweep::kColumns), Sweep::kColumns),
                           128);
}

// The first query of each strip of a step, -1 where a box is missing.
std::array<int, kStepStrips> positions(const ColumnImage& image, Step step) {
  std::array<int, kStepStrips> found{};
  for (int i = 0; i < kStepStrips; ++i) {
    const int column = i * kStripQueries;
    int& position = found[static_cast<std::size_t>(i)];
    if ((step.flags & Step::kIsGathered) == 0) {
      position = step.begin + column;
      continue;
    }
    const int box = column / image.box_rows;
    const bool is_there =
        box <= static_cast<int>(step.flags >> Step::kBoxesShift & Step::kBoxesMask);
    position = is_there ? image.sub_tiles[static_cast<std::size_t>(step.begin) +
                                          static_cast<std::size_t>(box)] +
                              column % image.box_rows
                        : -1;
  }
  return found;
}

std::vector<std::tuple<int, unsigned, int>> sorted_steps(const std::vector<KeyStep>& steps,
                                                         const KeyItem& item) {
  std::vector<std::tuple<int, unsigned, int>> list;
  const auto count =
      static_cast<std::size_t>(item.num_partial) + static_cast<std::size_t>(item.num_full);
  for (const KeyStep& step :
       std::span(steps).subspan(static_cast<std::size_t>(item.list_begin), count)) {
    list.emplace_back(step.step.begin, step.step.flags, step.head);
  }
  std::ranges::sort(list);
  return list;
}

// Taken item by item, each addition to a strip finds as many before it as its turn says: so all of
// them have an order, and none waits for a later item.
void expect_turns_are_an_order(const ColumnImage& image, const ColumnTurns& turns, int group_size) {
  ASSERT_EQ(turns.items.size(), image.items.size());
  ASSERT_EQ(turns.turns.size(), turns.steps.size() * kStepStrips);
  const auto place = [](const KeyItem& item) {
    return std::tuple(item.sequence, item.kv_head, item.k_begin);
  };
  std::map<std::tuple<int, int, int>, KeyItem> by_place;
  for (const KeyItem& item : image.items) by_place[place(item)] = item;
  std::map<std::tuple<int, int, int>, int> done;  // by sequence, head and strip
  for (const KeyItem& item : turns.items) {
    EXPECT_EQ(sorted_steps(turns.steps, item), sorted_steps(image.steps, by_place.at(place(item))));
    for (int i = 0; i < item.num_partial + item.num_full; ++i) {
      const std::size_t index =
          static_cast<std::size_t>(item.list_begin) + static_cast<std::size_t>(i);
      const KeyStep& step = turns.steps[index];
      const auto from = positions(image, step.step);
      for (std::size_t strip = 0; strip < kStepStrips; ++strip) {
        const std::int32_t turn = turns.turns[index * kStepStrips + strip];
        if (from[strip] < 0) {
          EXPECT_EQ(turn, QueryTurns::kNone);
          continue;
        }
        ASSERT_EQ(from[strip] % kStripQueries, 0);
        int& before = done[{item.sequence, item.kv_head * group_size + step.head, from[strip]}];
        ASSERT_EQ(turn, before++) << "item of key " << item.k_begin << ", query " << from[strip];
      }
    }
  }
}

void expect_order(const Mask& mask, const AttentionShape& shape) {
  const ColumnImage image = image_of(mask, shape);
  const auto turns = make_column_turns(image, shape.group_size(), kGpu, kAny);
  ASSERT_TRUE(turns) << mask.str();
  SCOPED_TRACE(mask.str());
  expect_turns_are_an_order(image, *turns, shape.group_size());
}

TEST(ColumnTurns, AreAnOrderOfTheAdditions) {
  const AttentionShape batch{{{700, 700, 0}, {700, 700, 0}, {30, 300, 270}, {1, 1, 0}}, 4, 2};
  const AttentionShape heads{{{2048, 2048, 0}}, 8, 8};
  for (const char* text :
       {"all", "causal", "none", "causal & (sink(64) | window(256))",
        "causal & (near(64, 2) | every(64, 4))", "upto(block(48))", "block_diffusion(1024, 32)"}) {
    expect_order(parse_mask(text), heads);
  }
  for (const char* text : {"all", "causal", "heads(0-1: causal; rest: window(30, 30))"}) {
    expect_order(parse_mask(text), batch);
  }
}

TEST(ColumnTurns, OfRandomMasksAreAnOrderToo) {
  const Campaign campaign(static_cast<std::uint64_t>(num_trials(60)));
  int num_orders = 0;
  for (std::uint64_t i = campaign.first; i < campaign.first + campaign.count; ++i) {
    SCOPED_TRACE(campaign.name(i));
    Random random(campaign.seed, i);
    const AttentionCase c = random_attention_case(random);
    const ColumnImage image = make_column_image(
        compile(c.masks, c.shape, gpu_tiling(64, Sweep::kColumns), Sweep::kColumns), 64);
    const auto turns = make_column_turns(image, c.shape.group_size(), {4, 200}, kAny);
    if (!turns) continue;
    ++num_orders;
    expect_turns_are_an_order(image, *turns, c.shape.group_size());
    if (testing::Test::HasFailure()) return;
  }
  // Nine in ten have one.
  if (campaign.count >= 20) {
    EXPECT_GT(num_orders, static_cast<int>(campaign.count) / 2);
  }
}

double slowdown(const char* text, const AttentionShape& shape) {
  const auto turns =
      make_column_turns(image_of(parse_mask(text), shape), shape.group_size(), kGpu, kAny);
  return turns ? turns->slowdown : kAny;
}

TEST(ColumnTurns, HardlyWaitWhereItemsBeginApart) {
  const AttentionShape long_one{{{16384, 16384, 0}}, 16, 16};
  EXPECT_LT(slowdown("all", long_one), 1.04);
  EXPECT_LT(slowdown("causal", long_one), 1.02);
  EXPECT_LT(slowdown("causal & (sink(128) | window(1024))", long_one), 1.1);
  EXPECT_LT(slowdown("causal & (near(64, 16) | every(64, 16, 1))", long_one), 1.1);
  EXPECT_LT(slowdown("upto(block(32))", {std::vector<SequenceShape>(4, {4096, 4096, 0}), 28, 4}),
            1.02);
}

// One item of each head sees all others first, or one head has all items, which do the same.
TEST(ColumnTurns, AreRefusedWhereTheyCostTooMuch) {
  const AttentionShape one_head{{{4096, 4096, 0}}, 1, 1};
  const ColumnImage image = image_of(parse_mask("all"), one_head);
  const auto turns = make_column_turns(image, 1, kGpu, kAny);
  ASSERT_TRUE(turns);
  EXPECT_GT(turns->slowdown, 1.2);
  EXPECT_FALSE(make_column_turns(image, 1, kGpu, 1.2));
  // Without others nobody waits.
  EXPECT_EQ(make_column_turns(image, 1, {}, kAny)->slowdown, 1);
}

TEST(ColumnTurns, AreRefusedWhereStripsOverlap) {
  ColumnImage image = image_of(Mask::causal(), {{{360, 360, 0}}, 1, 1});
  EXPECT_TRUE(make_column_turns(image, 1, kGpu, kAny));
  image.steps.back().step.begin += kStripQueries / 2;
  EXPECT_FALSE(make_column_turns(image, 1, kGpu, kAny));
}

// Two heads share the steps of their tiles, but the second has them the other way round.
TEST(ColumnTurns, OfHeadsThatShareStepsMayDiffer) {
  ColumnImage image = image_of(parse_mask("all"), {{{256, 256, 0}}, 2, 2});
  ASSERT_EQ(image.items.size(), 4U);
  std::swap(image.items[0].list_begin, image.items[1].list_begin);
  const auto turns = make_column_turns(image, 1, kGpu, kAny);
  ASSERT_TRUE(turns);
  expect_turns_are_an_order(image, *turns, 1);
}

}  // namespace
}  // namespace perpend
