// Plans from lists of blocks as the kernels make them, run by an emulated GPU: their pairs against
// compile() of the same mask, and attention over them against the f64 reference.

#include <cstring>
#include <map>
#include <set>

#include <cuda.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/kernels/cuda/block_list_image.h"
#include "perpend/kernels/cuda/device/block_lists.cuh"
#include "perpend/kernels/reference/attention_expectation.h"
#include "perpend/schedule/gpu_tiling.h"
#include "tests/campaign.h"
#include "tests/kernels/cuda/block_case.h"
#include "tests/kernels/cuda/emulated/emulated_forward.h"
#include "tests/kernels/cuda/image_pairs.h"

namespace perpend {
namespace {

// What a plan has on the device.
class EmulatedPlan {
 public:
  EmulatedPlan(BlockCase& c, std::uint64_t seed) : image_(make_block_list_image(c.spec)) {
    const device::BlockGeometry& g = image_.geometry;
    const auto items = static_cast<std::size_t>(g.num_items);
    const device::Step no_step{-1, ~0U};
    counts_.assign(items, {-1, -1});
    planned_.items.assign(items, device::Item{});
    planned_.steps.assign(items * static_cast<std::size_t>(g.steps_per_item), no_step);
    planned_.sub_tiles.assign(items * static_cast<std::size_t>(g.units_per_item), -1);
    planned_.bitmaps = image_.bitmaps;
    planned_.keys = device::keys_of_step(static_cast<int>(c.spec.attention.head_dim));
    planned_.box_rows = image_.box_rows;
    planned_.skips_parts = image_.skips_parts;
    if (g.num_items > 0) update(c, seed);
  }

  // Again, in the same memory.
  void update(BlockCase& c, std::uint64_t seed) {
    const device::BlockGeometry& g = image_.geometry;
    const std::int64_t lists = c.spec.num_list_heads * c.spec.num_q_blocks();
    const std::int64_t k = c.spec.max_blocks;
    const device::BlockListParams params{g,
                                         c.block_indices.data(),
                                         c.num_blocks.data(),
                                         {lists * k, c.spec.num_q_blocks() * k, k},
                                         {lists, c.spec.num_q_blocks(), 1},
                                         image_.flags.data(),
                                         image_.cut_flags.data(),
                                         counts_.data(),
                                         planned_.steps.data(),
                                         planned_.sub_tiles.data(),
                                         planned_.items.data(),
                                         planning_warps(g)};
    device::run_emulated(static_cast<int>(ceil_div(g.num_items, params.warps_per_cta)),
                         32 * params.warps_per_cta, seed, [&] {
                           g.lists_per_item == 1 ? device::plan_block_lists<1>(params)
                                                 : device::plan_block_lists<2>(params);
                         });
    device::run_emulated(g.num_order_ctas(), device::kOrderThreads, seed,
                         [&] { device::order_block_items(params); });
  }

  const device::BlockGeometry& geometry() const { return image_.geometry; }
  const ScheduleImage& planned() const { return planned_; }
  device::Lists lists() const { return lists_of(planned_, image_.geometry.group_size); }

 private:
  BlockListImage image_;
  std::vector<device::StepCounts> counts_;
  ScheduleImage planned_;
};

// Keys of each (sequence, query head, query).
using Pairs = std::map<std::tuple<int, int, int>, std::vector<int>>;

Pairs pairs_of(const ScheduleImage& image, int group_size) {
  Pairs pairs;
  for (const device::Item& item : image.items) {
    const int heads = (item.kv_head_and_packing & 1) != 0 ? group_size : 1;
    const int part_queries = device::kPartRows / heads;
    for (int query = 0; query < item.q_size; ++query) {
      const int first = query / part_queries * device::kPartRows + query % part_queries * heads;
      for (int head = 0; head < heads; ++head) {
        const bool is_new =
            pairs
                .try_emplace({item.sequence, item.q_head + head, item.q_begin + query},
                             keys_of_row(image, item, first + head))
                .second;
        EXPECT_TRUE(is_new) << "a row of two items";
      }
    }
  }
  return pairs;
}

std::string text_of(const BlockAttentionSpec& s) {
  return concat("batch ", s.batch, ", q_len ", s.q_len, ", kv_len ", s.kv_len, ", q_offset ",
                s.q_offset, ", heads ", s.num_q_heads, "/", s.num_kv_heads, "/", s.num_list_heads,
                ", q_block ", s.q_block, ", kv_block ", s.kv_block, ", max_blocks ", s.max_blocks,
                s.causal ? ", causal" : "", s.changes_scores ? ", changes_scores" : "",
                ", head_dim ", s.attention.head_dim);
}

void expect_pairs_of_mask(BlockCase& c, const EmulatedPlan& plan) {
  const AttentionCase mask = c.attention_case();
  const auto head_dim = static_cast<int>(mask.head_dim);
  const Schedule schedule =
      compile(mask.masks, mask.shape, gpu_tiling(head_dim, Sweep::kRows), Sweep::kRows);
  const int group_size = plan.geometry().group_size;
  EXPECT_EQ(pairs_of(plan.planned(), group_size),
            pairs_of(make_schedule_image(schedule, head_dim), group_size))
      << text_of(c.spec);
}

// Most steps first, a few heads after others, with what a kernel copies before it knows the list.
void expect_order(const EmulatedPlan& plan) {
  const std::vector<device::Item>& items = plan.planned().items;
  const device::BlockGeometry& g = plan.geometry();
  const auto steps = [](const device::Item& item) { return item.num_partial + item.num_full; };
  const auto section = [&](const device::Item& item) {
    return (item.sequence * g.num_kv_heads + item.kv_head_and_packing / 2) / device::kHeadsInOrder;
  };
  for (std::size_t i = 0; i < items.size(); ++i) {
    EXPECT_LE(steps(items[i]), g.steps_per_item);
    if (steps(items[i]) > 0) {
      const auto first = static_cast<std::size_t>(items[i].list_begin);
      EXPECT_EQ(std::memcmp(&items[i].first, &plan.planned().steps[first], sizeof(device::Step)),
                0);
    }
    if (i == 0) continue;
    EXPECT_LE(section(items[i - 1]), section(items[i]));
    if (section(items[i - 1]) == section(items[i]) && g.steps_per_item < device::kOrderThreads) {
      EXPECT_GE(steps(items[i - 1]), steps(items[i]));
    }
  }
}

// run(arguments) writes o and lse.
template <class Run>
void expect_attention(const BlockCase& c, Run run) {
  ThreadPool threads;
  AttentionCall call(c.attention_case());
  AttentionOutputs outputs = call.outputs();
  run(call.arguments(outputs));
  for (const Deviation& d : AttentionExpectation(call, false, threads).compare(outputs)) {
    EXPECT_TRUE(d.holds()) << text_of(c.spec) << "\n  " << d;
    if (d.output == AttentionOutput::kO) {
      EXPECT_LT(d.total_error, 5e-3) << text_of(c.spec) << "\n  " << d;
    }
  }
}

// By both kernels for heads of 64 values.
void expect_both_kernels_right(BlockCase& c, std::uint64_t seed) {
  const EmulatedPlan plan(c, seed);
  expect_attention(c, [&](const AttentionArgs& args) {
    run_portable_forward<device::PortableForward<device::Bf16, 64>>(args, plan.lists(), seed);
  });
  expect_attention(c, [&](const AttentionArgs& args) {
    run_hopper_forward<device::HopperForward<device::Bf16, 64, false, false>>(args, plan.lists(),
                                                                              seed);
  });
}

BlockCase block_case(const BlockAttentionSpec& spec, std::uint64_t seed) {
  BlockCase c{spec, {}, {}};
  Random random(seed);
  fill_lists(c, random);
  return c;
}

BlockAttentionSpec small_spec() {
  BlockAttentionSpec spec;
  spec.attention = {DType::kBF16, DType::kBF16, 64, false};
  spec.q_len = spec.kv_len = 300;
  spec.kv_block = 64;
  spec.max_blocks = 4;
  return spec;
}

TEST(BlockLists, RandomListsHoldThePairsOfTheMask) {
  const Campaign campaign(static_cast<std::uint64_t>(num_trials(60)));
  for (std::uint64_t i = campaign.first;
       i < campaign.first + campaign.count && !testing::Test::HasFailure(); ++i) {
    SCOPED_TRACE(campaign.name(i));
    Random random(campaign.seed, i);
    BlockCase c{random_block_spec(random, random.next_below(3) == 0 ? 192 : 128), {}, {}};
    fill_lists(c, random);
    EmulatedPlan plan(c, i);
    expect_pairs_of_mask(c, plan);
    expect_order(plan);
    // What was there before does not matter.
    fill_lists(c, random);
    plan.update(c, i + 1);
    expect_pairs_of_mask(c, plan);
  }
}

TEST(BlockLists, AttentionOverThemIsThatOfTheMask) {
  for (const std::int64_t kv_block : {16, 64, 128}) {
    for (const bool causal : {false, true}) {
      BlockAttentionSpec spec = small_spec();
      spec.q_len = spec.kv_len = 200;
      spec.num_q_heads = 2;
      spec.num_kv_heads = 1;
      spec.kv_block = kv_block;
      spec.causal = causal;
      BlockCase c = block_case(spec, 1);
      expect_both_kernels_right(c, 1);
      spec.num_list_heads = 2;
      spec.q_block = 64;
      BlockCase pairs = block_case(spec, 2);
      expect_both_kernels_right(pairs, 2);
    }
  }
  BlockAttentionSpec wide = small_spec();
  wide.attention.head_dim = 200;
  wide.q_len = 70;
  wide.kv_block = 16;
  BlockCase c = block_case(wide, 3);
  const EmulatedPlan plan(c, 3);
  expect_attention(c, [&](const AttentionArgs& args) {
    run_portable_forward<device::PortableForward<device::Bf16, 256>>(args, plan.lists(), 3);
  });
}

TEST(BlockLists, EmptyAndWholeLists) {
  for (const std::int64_t kv_block : {16, 128}) {
    BlockCase c = block_case(small_spec(), 1);
    c.spec.kv_block = kv_block;
    c.spec.max_blocks = c.spec.num_kv_blocks();
    fill_lists(c, *std::make_unique<Random>(1));
    for (const bool whole : {false, true}) {
      for (std::size_t i = 0; i < c.block_indices.size(); ++i) {
        c.block_indices[i] =
            whole ? static_cast<std::int32_t>(i % static_cast<std::size_t>(c.spec.max_blocks)) : -1;
      }
      for (std::int32_t& count : c.num_blocks) {
        count = static_cast<std::int32_t>(c.spec.max_blocks);
      }
      EmulatedPlan plan(c, 1);
      expect_pairs_of_mask(c, plan);
      const device::Item& item = plan.planned().items.front();
      EXPECT_EQ(item.num_full, whole ? 2 : 0);
      EXPECT_EQ(item.num_partial, whole ? 1 : 0);
    }
  }
}

TEST(BlockLists, NoQueriesOrNoKeys) {
  BlockAttentionSpec spec = small_spec();
  spec.q_len = 0;
  EXPECT_EQ(make_block_list_image(spec).geometry.num_items, 0);
  spec = small_spec();
  spec.kv_len = 0;
  BlockCase c = block_case(spec, 1);
  const EmulatedPlan plan(c, 1);
  for (const device::Item& item : plan.planned().items) {
    EXPECT_EQ(item.num_partial + item.num_full, 0);
  }
}

// Heads are sorted a few at a time; more items than one CTA puts in order.
TEST(BlockLists, ManyItemsAreSortedAFewHeadsAtATime) {
  BlockAttentionSpec spec = small_spec();
  spec.q_len = spec.kv_len = 1300;
  spec.num_q_heads = spec.num_kv_heads = spec.num_list_heads = 40;
  spec.max_blocks = 20;
  spec.causal = true;
  BlockCase c = block_case(spec, 1);
  const EmulatedPlan plan(c, 1);
  EXPECT_EQ(plan.geometry().num_order_ctas(), 4);
  expect_order(plan);
  std::set<std::pair<int, int>> rows;
  for (const device::Item& item : plan.planned().items) rows.emplace(item.q_head, item.q_begin);
  EXPECT_EQ(rows.size(), plan.planned().items.size());
}

// Heads of a group share rows where the queries of a list are too few for a tile; query blocks of
// half a tile share items where heads can not.
TEST(BlockLists, RowsOfItems) {
  BlockAttentionSpec spec = small_spec();
  spec.q_block = 64;
  EXPECT_EQ(make_block_list_image(spec).geometry.lists_per_item, 2);
  EXPECT_TRUE(make_block_list_image(spec).skips_parts);
  spec.changes_scores = true;
  EXPECT_FALSE(make_block_list_image(spec).skips_parts);
  spec.num_q_heads = 8;
  EXPECT_TRUE(make_block_list_image(spec).geometry.is_packed);
  spec.num_list_heads = 8;
  EXPECT_FALSE(make_block_list_image(spec).geometry.is_packed);
  spec.num_list_heads = 1;
  spec.q_block = 128;
  EXPECT_FALSE(make_block_list_image(spec).geometry.is_packed);
}

std::string error_of(const BlockAttentionSpec& spec) {
  try {
    make_block_list_image(spec);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "no error";
}

TEST(BlockLists, SpecsThatKernelsDoNotTake) {
  using testing::HasSubstr;
  BlockAttentionSpec spec = small_spec();
  spec.kv_block = 48;
  EXPECT_THAT(error_of(spec), HasSubstr("kv_block must be 16, 32, 64 or a multiple of 128"));
  spec = small_spec();
  spec.num_q_heads = 3;
  spec.num_kv_heads = 2;
  EXPECT_THAT(error_of(spec),
              HasSubstr("num_q_heads must be a multiple of num_kv_heads (3 and 2)"));
  spec.num_kv_heads = 1;
  spec.num_list_heads = 2;
  EXPECT_THAT(error_of(spec), HasSubstr("lists must be of each query head"));
  spec = small_spec();
  spec.causal = true;
  spec.q_offset = 1;
  EXPECT_THAT(error_of(spec), HasSubstr("q_offset 1 + q_len 300 vs kv_len 300"));
  spec = small_spec();
  spec.max_blocks = std::int64_t{1} << 30;
  spec.kv_len = std::int64_t{1} << 30;
  EXPECT_THAT(error_of(spec), HasSubstr("too many for blocks of 64"));
  spec.batch = 0;
  EXPECT_THAT(error_of(spec), HasSubstr("must not be negative"));
}

}  // namespace
}  // namespace perpend
