// What the CUDA kernels read of a schedule, without a GPU: the order of bits, and that the image
// holds the pairs of the schedule.

#include "perpend/kernels/cuda/schedule_image.h"

#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/core/random.h"
#include "perpend/core/range.h"
#include "perpend/kernels/cuda/column_image.h"
#include "perpend/kernels/cuda/device/shared_layout.h"
#include "perpend/mask/bindings.h"
#include "perpend/schedule/gpu_tiling.h"
#include "tests/kernels/cuda/image_pairs.h"

namespace perpend {
namespace {

using device::Item;

TEST(FragmentOrder, EveryPairOfATileIsOneRegisterOfOneThread) {
  for (const int keys : {64, 128}) {
    std::set<std::pair<int, int>> seen;
    for (int thread = 0; thread < device::kTileThreads; ++thread) {
      for (int j = 0; j < keys / 2; ++j) {
        seen.emplace(device::fragment_row(thread, j), device::fragment_column(thread, j));
      }
    }
    EXPECT_EQ(seen.size(),
              static_cast<std::size_t>(device::kTileRows) * static_cast<std::size_t>(keys));
    EXPECT_EQ(seen.rbegin()->first, device::kTileRows - 1);
  }
}

// The register layout as the PTX ISA prints it, at a few places.
TEST(FragmentOrder, IsThatOfTheProductInstruction) {
  EXPECT_EQ(device::fragment_row(0, 0), 0);
  EXPECT_EQ(device::fragment_column(0, 1), 1);
  EXPECT_EQ(device::fragment_row(0, 2), 8);
  EXPECT_EQ(device::fragment_column(1, 0), 2);
  EXPECT_EQ(device::fragment_row(4, 0), 1);
  EXPECT_EQ(device::fragment_column(3, 5), 15);
  EXPECT_EQ(device::fragment_row(33, 3), 24);
  EXPECT_EQ(device::fragment_row(128, 0), 64);
}

TEST(FragmentOrder, PermutedBitsAreTheBitsOfTheRows) {
  Random random(3);
  for (const int words_per_row : {1, 2}) {
    const int keys = 64 * words_per_row;
    std::vector<std::uint64_t> words(static_cast<std::size_t>(device::kTileRows) *
                                     static_cast<std::size_t>(words_per_row));
    for (std::uint64_t& word : words) word = random.next_u64();
    // Rows in any order, some of them dead.
    std::vector<int> rows;
    rows.reserve(device::kTileRows);
    for (int r = 0; r < device::kTileRows; ++r) rows.push_back(r % 7 == 6 ? -1 : (r * 5 + 3) % 128);
    std::vector<std::uint32_t> fragments;
    append_fragments(words, words_per_row, rows, fragments);
    ASSERT_EQ(fragments.size(), static_cast<std::size_t>(device::fragment_words(keys)));
    for (int thread = 0; thread < device::kTileThreads; ++thread) {
      for (int j = 0; j < keys / 2; ++j) {
        const int row = rows[static_cast<std::size_t>(device::fragment_row(thread, j))];
        const int column = device::fragment_column(thread, j);
        const bool expected =
            row >= 0 &&
            (words[static_cast<std::size_t>(row) * static_cast<std::size_t>(words_per_row) +
                   static_cast<std::size_t>(column / 64)] >>
                 (column % 64) &
             1U) != 0;
        const auto word = static_cast<std::size_t>(device::fragment_word(thread, j, keys));
        ASSERT_EQ((fragments[word] >> device::fragment_bit(j) & 1U) != 0, expected);
      }
    }
  }
}

// Each chunk of 16 bytes of eight rows has its own four banks, and no two values share a place.
template <int kHeadDim>
void expect_swizzle_without_conflicts() {
  using Layout = device::TileLayout<kHeadDim>;
  std::set<std::uint32_t> places;
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < kHeadDim; ++column) {
      places.insert(Layout::offset(row, column, 16));
    }
  }
  EXPECT_EQ(places.size(), static_cast<std::size_t>(16 * kHeadDim));
  EXPECT_EQ(*places.rbegin(), static_cast<std::uint32_t>(Layout::bytes(16) - 2));
  for (int column = 0; column < Layout::kPanelColumns; column += 8) {
    std::set<std::uint32_t> banks;
    for (int row = 0; row < 8; ++row) banks.insert(Layout::offset(row, column, 8) % 128 / 16);
    EXPECT_EQ(banks.size(), 8U);
  }
}

TEST(SharedLayout, SwizzleIsABijectionWithoutBankConflicts) {
  expect_swizzle_without_conflicts<32>();
  expect_swizzle_without_conflicts<192>();
}

template <int kHeadDim>
void expect_descriptors_of_steps() {
  using Layout = device::TileLayout<kHeadDim>;
  const auto address_of = [](std::uint32_t low) { return low << 4 & 0x3ffffU; };
  const std::uint32_t low = device::descriptor_low(1 << 17, Layout::kColumnLeading);
  // The first row of an atom is not swizzled.
  for (int step = 0; step < kHeadDim / 16; ++step) {
    EXPECT_EQ(address_of(low + Layout::column_step(step, 128)),
              (1U << 17) + Layout::offset(0, 16 * step, 128));
  }
  const std::uint32_t row_low = device::descriptor_low(1 << 17, Layout::row_leading(128));
  for (int step = 0; step < 8; ++step) {
    EXPECT_EQ(address_of(row_low + Layout::row_step(step)),
              (1U << 17) + Layout::offset(16 * step, 0, 128));
  }
}

TEST(SharedLayout, DescriptorsNameTheFirstValueOfAStep) {
  expect_descriptors_of_steps<32>();
  expect_descriptors_of_steps<128>();
  EXPECT_EQ(device::TileLayout<128>::kDescriptorHigh, 64U | 1U << 30);
  EXPECT_EQ(device::TileLayout<32>::kDescriptorHigh, 32U | 2U << 30);
}

ScheduleImage image_of(const Schedule& schedule, int head_dim, PartSkips part_skips) {
  const auto every = [](const WorkItem& /*item*/) { return true; };
  return make_schedule_image(schedule, head_dim, {every, 0, part_skips});
}

// Some rows of each item of the image against the mask.
void expect_image_holds(const Mask& mask, const AttentionShape& shape, int head_dim,
                        PartSkips part_skips) {
  const Schedule schedule = compile(mask, shape, gpu_tiling(head_dim, Sweep::kRows));
  const ScheduleImage image = image_of(schedule, head_dim, part_skips);
  const int group = shape.group_size();
  ASSERT_EQ(image.items.size(), schedule.items.size());
  for (const Item& item : image.items) {
    const bool packed = (item.kv_head_and_packing & 1) != 0;
    const int heads = packed ? group : 1;
    const int part_queries = device::kPartRows / heads;
    EXPECT_EQ(item.kv_head_and_packing / 2, item.q_head / group);
    for (int query = 0; query < item.q_size; query += 13) {
      const int row = query / part_queries * device::kPartRows + query % part_queries * heads;
      const int head = item.q_head;
      std::vector<int> expected;
      for (int key = 0; key < item.kv_len; ++key) {
        const HeadIndex index{head, head / group};
        if (mask.visible(item.q_offset + item.q_begin + query, key, index)) expected.push_back(key);
      }
      // Full steps of the one part of a short item are computed for both.
      EXPECT_EQ(keys_of_row(image, item, row), expected)
          << mask.str() << ", item of head " << head << " from " << item.q_begin << ", query "
          << query;
    }
  }
}

TEST(ScheduleImage, HoldsThePairsOfTheMask) {
  const AttentionShape ragged{{{200, 200, 0}, {70, 333, 263}, {1, 129, 128}}, 4, 4};
  const AttentionShape grouped{{{150, 150, 0}}, 6, 2};
  for (const char* text :
       {"all", "causal", "none", "causal & (sink(16) | window(40))", "same(block(64))",
        "causal & (near(64, 1) | every(64, 2))", "upto(block(48))", "causal & every(16, 4)"}) {
    const Mask mask = parse_mask(text);
    for (const PartSkips skips : {PartSkips::kIfMany, PartSkips::kAlways, PartSkips::kNever}) {
      expect_image_holds(mask, ragged, 128, skips);
      expect_image_holds(mask, ragged, 256, skips);
      expect_image_holds(mask, grouped, 64, skips);
    }
  }
}

// A batch decides for all of its sequences whether parts test for steps that they do not have,
// unless it is told. Either way a sequence has the same steps in the same order.
TEST(ScheduleImage, BatchMatesChangeNoStep) {
  const auto image = [](std::vector<SequenceShape> sequences, PartSkips skips) {
    const Schedule schedule = compile(parse_mask("same(copy(114)) & causal"),
                                      {std::move(sequences), 1, 1}, gpu_tiling(80, Sweep::kRows));
    return image_of(schedule, 80, skips);
  };
  const SequenceShape first{111, 109, 0};
  const SequenceShape second{17, 126, 274};
  EXPECT_FALSE(image({first}, PartSkips::kIfMany).skips_parts);
  EXPECT_TRUE(image({first, second}, PartSkips::kIfMany).skips_parts);
  const ScheduleImage skips = image({first, second}, PartSkips::kAlways);
  const ScheduleImage masks = image({first, second}, PartSkips::kNever);
  EXPECT_FALSE(masks.skips_parts);
  ASSERT_EQ(skips.items.size(), masks.items.size());
  for (std::size_t i = 0; i < skips.items.size(); ++i) {
    EXPECT_EQ(skips.items[i].list_begin, masks.items[i].list_begin);
    EXPECT_EQ(skips.items[i].num_partial, masks.items[i].num_partial);
    EXPECT_EQ(skips.items[i].num_full, masks.items[i].num_full);
  }
  ASSERT_EQ(skips.steps.size(), masks.steps.size());
  for (std::size_t i = 0; i < skips.steps.size(); ++i) {
    EXPECT_EQ(skips.steps[i].begin, masks.steps[i].begin);
  }
}

TEST(ScheduleImage, SharesListsAndBitmaps) {
  const AttentionShape shape{{{4096, 4096, 0}}, 8, 8};
  const Schedule causal = compile(Mask::causal(), shape, gpu_tiling(128, Sweep::kRows));
  const ScheduleImage image = make_schedule_image(causal, 128);
  EXPECT_EQ(image.bitmaps.size(), static_cast<std::size_t>(device::fragment_words(128)));
  EXPECT_EQ(image.steps.size(), 32U * 33U / 2U);
}

TEST(ColumnImage, HoldsThePairsOfTheMask) {
  const AttentionShape ragged{{{200, 200, 0}, {70, 333, 263}, {1, 129, 128}, {300, 90, 0}}, 4, 4};
  const AttentionShape grouped{{{150, 150, 0}}, 6, 2};
  for (const char* text :
       {"all", "causal", "none", "causal & (sink(16) | window(40))", "same(block(64))",
        "causal & (near(64, 1) | every(64, 2))", "upto(block(48))", "causal & every(16, 4)",
        "heads(0-1: causal; rest: window(30, 30))"}) {
    const Mask mask = parse_mask(text);
    for (const AttentionShape& shape : {ragged, grouped}) {
      const Schedule schedule =
          compile(mask, shape, gpu_tiling(128, Sweep::kColumns), Sweep::kColumns);
      const ColumnImage image = make_column_image(schedule, 128);
      ASSERT_EQ(image.items.size(), schedule.items.size());
      for (const device::KeyItem& item : image.items) {
        for (int key = 0; key < item.k_size; key += 13) {
          for (int head = 0; head < shape.group_size(); ++head) {
            const HeadIndex index{item.kv_head * shape.group_size() + head, item.kv_head};
            std::vector<int> expected;
            for (int query = 0; query < item.q_len; ++query) {
              if (mask.visible(item.q_offset + query, item.k_begin + key, index)) {
                expected.push_back(query);
              }
            }
            EXPECT_EQ(queries_of_key(image, item, key, head), expected)
                << text << ", key " << item.k_begin + key << ", head " << index.q_head;
          }
        }
      }
    }
  }
}

// Of many heads a few at a time, all of them longest first, and the short items at the end.
TEST(ScheduleImage, ItemsOfAFewHeadsFollowEachOther) {
  const AttentionShape shape{{{2048, 2048, 0}, {2048, 2048, 0}}, 40, 40};
  const Schedule schedule = compile(Mask::causal(), shape, gpu_tiling(128, Sweep::kRows));
  const ScheduleImage image = make_schedule_image(schedule, 128);
  ASSERT_EQ(image.items.size(), schedule.items.size());
  const auto steps = [](const Item& item) { return item.num_partial + item.num_full; };
  std::set<std::pair<int, int>> heads;
  std::size_t i = 0;
  for (; i < 32U * 13U; ++i) heads.emplace(image.items[i].sequence, image.items[i].q_head);
  EXPECT_EQ(heads.size(), 32U);
  EXPECT_EQ(steps(image.items.front()), 16);
  EXPECT_EQ(steps(image.items[i]), 16) << "the next heads begin with their longest";
  EXPECT_EQ(steps(image.items.back()), 1);
  std::set<std::tuple<int, int, int>> all;
  for (const Item& item : image.items) all.emplace(item.sequence, item.q_head, item.q_begin);
  EXPECT_EQ(all.size(), schedule.items.size());
}

TEST(ScheduleImage, PlansForOtherKernelsAreRefused) {
  const AttentionShape shape{{{256, 256, 0}}, 1, 1};
  const Schedule other = compile(Mask::causal(), shape, plain_tiling(64, 64));
  EXPECT_THROW(make_schedule_image(other, 128), InvalidArgument);
  const Schedule narrow = compile(Mask::causal(), shape, gpu_tiling(256, Sweep::kRows));
  EXPECT_THROW(make_schedule_image(narrow, 128), InvalidArgument);
  EXPECT_THROW(make_column_image(other, 128), InvalidArgument);
}

}  // namespace
}  // namespace perpend
