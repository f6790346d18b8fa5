// How lists are cut for the decode kernel, without a GPU.

#include "perpend/kernels/cuda/decode_image.h"

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/core/random.h"
#include "perpend/core/range.h"
#include "perpend/mask/bindings.h"
#include "perpend/schedule/gpu_tiling.h"
#include "tests/campaign.h"
#include "tests/mask/random_mask.h"

namespace perpend {
namespace {

using device::Item;
using device::Step;

int num_steps(const Item& item) { return item.num_partial + item.num_full; }

// Where the rows of an item are.
std::tuple<int, int, int> rows_of(const Item& item) {
  return {item.sequence, item.q_head, item.q_begin};
}

std::map<std::tuple<int, int, int>, std::vector<Item>> pieces_by_rows(const DecodeImage& image) {
  std::map<std::tuple<int, int, int>, std::vector<Item>> pieces;
  for (const Item& item : image.items) pieces[rows_of(item)].push_back(item);
  for (auto& [rows, items] : pieces) std::ranges::sort(items, {}, &Item::list_begin);
  return pieces;
}

Schedule compiled(const std::string& mask, const AttentionShape& shape, int head_dim = 128) {
  Tiling tiling = gpu_tiling(head_dim, Sweep::kRows);
  tiling.any_start = false;
  return compile(parse_mask(mask), shape, tiling);
}

// The pieces of an item are its list, each step once and in order, and their rows lie where their
// sum looks for them.
void expect_pieces_make_up(const std::vector<Item>& pieces, const Item& uncut,
                           const DecodeImage& image, int group_size) {
  int next = uncut.list_begin;
  int partial = 0;
  for (const Item& piece : pieces) {
    EXPECT_EQ(piece.list_begin, next);
    EXPECT_TRUE(pieces.size() == 1 || num_steps(piece) > 0);
    // Partial steps come first.
    EXPECT_EQ(piece.num_partial,
              std::clamp(uncut.num_partial - (next - uncut.list_begin), 0, num_steps(piece)));
    if (num_steps(piece) > 0) {
      const Step& first = image.lists.steps[static_cast<std::size_t>(piece.list_begin)];
      EXPECT_TRUE(piece.first.begin == first.begin && piece.first.flags == first.flags);
    }
    next += num_steps(piece);
    partial += piece.num_partial;
  }
  EXPECT_EQ(next, uncut.list_begin + num_steps(uncut));
  EXPECT_EQ(partial, uncut.num_partial);
  const auto sum = std::ranges::find_if(
      image.sums, [&](const device::SplitSum& s) { return rows_of(s.item) == rows_of(uncut); });
  if (pieces.size() == 1) {
    EXPECT_EQ(pieces.front().split_row, Item::kUncut);
    EXPECT_EQ(sum, image.sums.end());
    return;
  }
  ASSERT_NE(sum, image.sums.end());
  // All of its rows are added up, some by each sum.
  const int rows = rows_of_item(uncut, group_size);
  for (int row = 0; row < rows; row += device::kRowsOfSumCta) {
    const auto place = sum + row / device::kRowsOfSumCta;
    ASSERT_LT(place - image.sums.begin(), std::ssize(image.sums));
    EXPECT_EQ(rows_of(place->item), rows_of(uncut));
    EXPECT_EQ(place->item.split_row, sum->item.split_row);
    EXPECT_EQ(place->num_items, static_cast<int>(pieces.size()));
    EXPECT_EQ(place->first_row, row);
  }
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    EXPECT_EQ(pieces[i].split_row, sum->item.split_row + static_cast<int>(i) * rows);
  }
}

TEST(DecodeImage, CutsCoverEachStepOnce) {
  const std::vector<SequenceShape> sequences = {{1, 8000, 7999}, {32, 5000, 4968}, {7, 300, 293},
                                                {1, 1, 0},       {200, 900, 700},  {3, 0, 0}};
  for (const char* mask : {"causal", "causal & (sink(64) | window(1500))", "causal & every(16, 4)",
                           "heads(0-3: causal; rest: window(600, 1))", "none"}) {
    const Schedule schedule = compiled(mask, {sequences, 8, 2});
    const DecodeImage image = make_decode_image(schedule, 128);
    const ScheduleImage uncut = make_schedule_image(schedule, 128);
    const auto pieces = pieces_by_rows(image);
    ASSERT_EQ(pieces.size(), uncut.items.size());
    std::set<std::int32_t> split_rows;
    for (const Item& item : uncut.items) {
      expect_pieces_make_up(pieces.at(rows_of(item)), item, image, 4);
      for (const Item& piece : pieces.at(rows_of(item))) {
        for (int r = 0; r < rows_of_item(piece, 4) && piece.split_row != Item::kUncut; ++r) {
          EXPECT_TRUE(split_rows.insert(piece.split_row + r).second) << "two items share a row";
        }
      }
    }
    EXPECT_EQ(static_cast<std::int64_t>(split_rows.size()), image.split_rows);
    EXPECT_TRUE(std::ranges::is_sorted(image.items, [](const Item& a, const Item& b) {
      return num_steps(a) > num_steps(b);
    })) << "not longest first";
  }
}

TEST(DecodeImage, BatchMatesChangeNoCut) {
  const std::vector<SequenceShape> sequences = {
      {1, 8000, 7999}, {32, 5000, 4968}, {7, 900, 893}, {1, 8000, 7999}, {1, 131072, 131071}};
  const auto cuts = [](const DecodeImage& image, int sequence) {
    std::map<std::tuple<int, int>, std::vector<std::pair<int, int>>> result;
    for (const auto& [rows, items] : pieces_by_rows(image)) {
      if (std::get<0>(rows) != sequence) continue;
      int first = 0;
      for (const Item& item : items) {
        result[{std::get<1>(rows), std::get<2>(rows)}].emplace_back(first, num_steps(item));
        first += num_steps(item);
      }
    }
    return result;
  };
  const DecodeImage together = make_decode_image(compiled("causal", {sequences, 8, 2}), 128);
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    const DecodeImage alone = make_decode_image(compiled("causal", {{sequences[s]}, 8, 2}), 128);
    EXPECT_EQ(cuts(together, static_cast<int>(s)), cuts(alone, 0));
  }
}

TEST(DecodeImage, OneSequenceOccupiesTheGpu) {
  // Eight key/value heads: two rounds of 132 at 128k keys, one at 8k, pieces of 256 keys at 1k.
  EXPECT_EQ(num_cuts({1024, 4, 8}, 128), 33);
  EXPECT_EQ(num_cuts({64, 4, 8}, 128), 16);
  EXPECT_EQ(num_cuts({8, 4, 8}, 128), 4);
  EXPECT_EQ(num_cuts({3, 4, 8}, 128), 1);
  // One head has all of the GPU, many heads do without.
  EXPECT_EQ(num_cuts({1024, 8, 1}, 128), 132);
  EXPECT_EQ(num_cuts({1024, 8, 200}, 128), 1);
  // A block of 32 queries and four heads: o must not be more bytes than its keys.
  EXPECT_EQ(num_cuts({256, 128, 8}, 128), 16);
  EXPECT_EQ(num_cuts({8, 128, 8}, 128), 2);
  EXPECT_EQ(num_cuts({0, 4, 8}, 128), 1);
  for (std::int64_t steps = 1; steps < 300; ++steps) {
    for (const int keys : {64, 128}) {
      const int cuts = num_cuts({steps, 4, 8}, keys);
      EXPECT_TRUE(cuts == 1 || steps / cuts * keys >= 256) << steps << " steps of " << keys;
    }
  }
}

// What the copies of pages rely on: no box of a plan whose steps begin at multiples of their size
// straddles two pages of a multiple of 16 keys.
TEST(DecodeImage, BoxesLieOnTheGridOfPages) {
  const AttentionShape shape{{{1, 3000, 2999}, {20, 777, 757}}, 2, 1};
  for (const char* mask : {"causal", "causal & window(777)", "causal & (sink(5) | window(300))",
                           "causal & every(16, 4)", "causal & (every(100, 3) | window(50))"}) {
    for (const int head_dim : {128, 256}) {
      const ScheduleImage lists =
          make_decode_image(compiled(mask, shape, head_dim), head_dim).lists;
      for (const Step& step : lists.steps) {
        if ((step.flags & Step::kIsGathered) != 0) continue;
        EXPECT_EQ(step.begin % lists.keys, 0) << mask;
      }
      for (const std::int32_t begin : lists.sub_tiles) EXPECT_EQ(begin % kDecodeBoxRows, 0) << mask;
    }
  }
}

void expect_room(const PlanCapacity& room, const PlanCapacity& needed) {
  EXPECT_LE(needed.items, room.items);
  EXPECT_LE(needed.sums, room.sums);
  EXPECT_LE(needed.steps, room.steps);
  EXPECT_LE(needed.sub_tiles, room.sub_tiles);
  EXPECT_LE(needed.bitmaps, room.bitmaps);
  EXPECT_LE(needed.split_rows, room.split_rows);
}

// Every step of a decode loop fits what the longest one needs, whatever the sequences share.
TEST(DecodeImage, CapacityIsEnoughForTheStepsOfALoop) {
  for (const char* mask : {"causal", "causal & (sink(64) | window(700))", "causal & every(16, 4)",
                           "causal & every(64, 4)", "upto(block(32))"}) {
    const AttentionShape largest{std::vector<SequenceShape>(3, {4, 3000, 2996}), 8, 2};
    const PlanCapacity room = decode_capacity(compiled(mask, largest), 128);
    for (std::int64_t length = 5; length < 3000; length += 97) {
      SCOPED_TRACE(concat(mask, ", ", length));
      const AttentionShape shape{
          {{4, length, length - 4}, {1, 3000 - length, 2999 - length}, {2, length / 2, length / 3}},
          8,
          2};
      expect_room(room, size_of(make_decode_image(compiled(mask, shape), 128)));
    }
  }
}

// What the bounds are made of.
void expect_short_lists(const ScheduleImage& lists) {
  for (const Item& item : lists.items) {
    EXPECT_LE(num_steps(item), ceil_div(item.kv_len, lists.keys) + 2);
  }
  for (const Step& step : lists.steps) {
    const auto boxes = static_cast<int>(step.flags >> Step::kBoxesShift & Step::kBoxesMask) + 1;
    EXPECT_LE(boxes, lists.keys / kDecodeBoxRows);
  }
}

// A part of a sequence, which may lie elsewhere.
SequenceShape shorter(Random& random, const SequenceShape& sequence, std::int64_t scale) {
  const auto up_to = [&](std::int64_t most) {
    return static_cast<std::int64_t>(random.next_below(static_cast<std::uint64_t>(most) + 1));
  };
  return {up_to(sequence.q_len), up_to(sequence.kv_len), up_to(scale)};
}

TEST(DecodeImage, CapacityIsEnoughForAnyMaskAndLengths) {
  constexpr std::int64_t kScale = 3000;
  for (int trial = 0; trial < num_trials(400); ++trial) {
    Random random(17, static_cast<std::uint64_t>(trial));
    const Mask mask = random_mask(random, kScale);
    const int head_dim = random.next_below(2) == 0 ? 128 : 256;
    Tiling tiling = gpu_tiling(head_dim, Sweep::kRows);
    tiling.any_start = random.next_below(2) == 0;
    const int kv_heads = 1 << random.next_below(3);
    AttentionShape shape{{}, kv_heads * (1 << random.next_below(4)), kv_heads};
    for (std::uint64_t s = 1 + random.next_below(3); s > 0; --s) {
      const auto queries =
          static_cast<std::int64_t>(1 + random.next_below(random.next_below(2) == 0 ? 300 : 10));
      shape.sequences.push_back(shorter(random, {queries - 1, kScale, 0}, kScale));
      ++shape.sequences.back().q_len;
    }
    const PlanCapacity room = decode_capacity(compile(mask, shape, tiling), head_dim);
    for (int step = 0; step < 8; ++step) {
      std::ostringstream lengths;
      AttentionShape other = shape;
      for (SequenceShape& sequence : other.sequences) {
        if (step > 0) sequence = shorter(random, sequence, kScale);
        lengths << " (" << sequence.q_len << ", " << sequence.kv_len << ", " << sequence.q_offset
                << ")";
      }
      SCOPED_TRACE(concat("trial ", trial, ": ", mask, lengths.str(), ", heads ", other.num_q_heads,
                          "/", kv_heads, ", head_dim ", head_dim));
      const DecodeImage image = make_decode_image(compile(mask, other, tiling), head_dim);
      expect_room(room, size_of(image));
      expect_short_lists(image.lists);
    }
    if (HasFailure()) return;
  }
}

// What a plan does at every step: nothing of the image before is left.
TEST(DecodeImage, MemoryOfAnotherImageChangesNothing) {
  const auto shape = [](std::int64_t length) {
    return AttentionShape{{{1, length, length - 1}, {20, 2 * length, length}}, 8, 2};
  };
  const Schedule schedule = compiled("causal & (sink(64) | window(700))", shape(900));
  const DecodeImage expected = make_decode_image(schedule, 128);
  const DecodeImage image = make_decode_image(
      schedule, 128, make_decode_image(compiled("causal & every(16, 4)", shape(4000)), 128));
  const auto bytes = [](const auto& values) {
    const auto all = std::as_bytes(std::span(values));
    return std::vector<std::byte>(all.begin(), all.end());
  };
  EXPECT_EQ(bytes(image.items), bytes(expected.items));
  EXPECT_EQ(bytes(image.lists.steps), bytes(expected.lists.steps));
  EXPECT_EQ(image.lists.sub_tiles, expected.lists.sub_tiles);
  EXPECT_EQ(image.lists.bitmaps, expected.lists.bitmaps);
  EXPECT_EQ(image.sums.size(), expected.sums.size());
  EXPECT_EQ(image.split_rows, expected.split_rows);
}

TEST(DecodeImage, FewRowsIsASequencesOwn) {
  const Schedule schedule = compiled(
      "causal",
      {{{1, 8000, 7999}, {600, 600, 0}, {1, 100, 99}, {32, 2000, 1968}, {20, 513, 493}}, 8, 2});
  EXPECT_TRUE(has_few_rows(schedule, 0));
  EXPECT_FALSE(has_few_rows(schedule, 1));
  EXPECT_FALSE(has_few_rows(schedule, 2)) << "too few keys for pieces";
  EXPECT_TRUE(has_few_rows(schedule, 3));
  EXPECT_TRUE(has_few_rows(schedule, 4));
}

}  // namespace
}  // namespace perpend
