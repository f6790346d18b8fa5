// Plans from lists of blocks as the kernels make them, run by an emulated GPU: their pairs against
// compile() of the same mask, and attention over them against the f64 reference.

#include <cstring>
#include <map>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/kernels/reference/attention_expectation.h"
#include "perpend/schedule/gpu_tiling.h"
#include "tests/campaign.h"
#include "tests/kernels/cuda/block_case.h"
#include "tests/kernels/cuda/emulated/emulated_block_plan.h"
#include "tests/kernels/cuda/emulated/emulated_forward.h"
#include "tests/kernels/cuda/image_pairs.h"

namespace perpend {
namespace {

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

std::vector<int> queries_of_lists(const BlockCase& c, int sequence, int head, int key) {
  const BlockAttentionSpec& spec = c.spec;
  const int list_head = head / (spec.num_q_heads / spec.num_list_heads);
  std::vector<int> queries;
  for (std::int64_t q_block = 0; q_block < spec.num_q_blocks(); ++q_block) {
    const std::vector<std::int32_t> blocks =
        c.blocks_of((sequence * spec.num_list_heads + list_head) * spec.num_q_blocks() + q_block);
    if (!std::ranges::binary_search(blocks, key / spec.kv_block)) continue;
    const std::int64_t end = std::min((q_block + 1) * spec.q_block, spec.q_len);
    for (std::int64_t query = q_block * spec.q_block; query < end; ++query) {
      if (!spec.causal || key <= spec.q_offset + query) {
        queries.push_back(static_cast<int>(query));
      }
    }
  }
  return queries;
}

void expect_pairs_of_mask(BlockCase& c, const EmulatedPlan& plan) {
  const AttentionCase mask = c.attention_case();
  const auto head_dim = static_cast<int>(mask.head_dim);
  const Schedule schedule =
      compile(mask.masks, mask.shape, gpu_tiling(head_dim, Sweep::kRows), Sweep::kRows);
  const int group_size = plan.geometry().group_size;
  EXPECT_EQ(pairs_of(plan.rows(), group_size),
            pairs_of(make_schedule_image(schedule, head_dim), group_size))
      << text_of(c.spec);
}

// Most steps first, a few heads after others, with what a kernel copies before it knows the list.
void expect_order(const EmulatedPlan& plan) {
  const std::vector<device::Item>& items = plan.rows().items;
  const device::BlockGeometry& g = plan.geometry();
  const auto steps = [](const device::Item& item) { return item.num_partial + item.num_full; };
  const auto bucket = [&](const device::Item& item) { return device::order_bucket(steps(item)); };
  const auto section = [&](const device::Item& item) {
    return (item.sequence * g.num_kv_heads + item.kv_head_and_packing / 2) / device::kHeadsInOrder;
  };
  for (std::size_t i = 0; i < items.size(); ++i) {
    EXPECT_LE(steps(items[i]), g.steps_per_item);
    if (steps(items[i]) > 0) {
      const auto first = static_cast<std::size_t>(items[i].list_begin);
      EXPECT_EQ(std::memcmp(&items[i].first, &plan.rows().steps[first], sizeof(device::Step)), 0);
    }
    if (i == 0) continue;
    EXPECT_LE(section(items[i - 1]), section(items[i]));
    if (section(items[i - 1]) == section(items[i])) {
      EXPECT_LE(bucket(items[i - 1]), bucket(items[i]));
    }
  }
}

// Queries that a key is seen by, for each head of its group, and the order of items.
void expect_columns(const BlockCase& c, const EmulatedPlan& plan) {
  const BlockAttentionSpec& spec = c.spec;
  if (!spec.gradients) return;
  const ColumnImage& image = plan.columns();
  const int group = spec.num_q_heads / spec.num_kv_heads;
  std::set<std::tuple<int, int, int>> tiles;
  for (const device::KeyItem& item : image.items) {
    EXPECT_TRUE(tiles.emplace(item.sequence, item.kv_head, item.k_begin).second);
    EXPECT_EQ(item.k_size, std::min<std::int64_t>(128, spec.kv_len - item.k_begin));
    for (int key = 0; key < item.k_size; key += 5) {
      for (int head = 0; head < group; ++head) {
        EXPECT_EQ(
            queries_of_key(image, item, key, head),
            queries_of_lists(c, item.sequence, item.kv_head * group + head, item.k_begin + key))
            << text_of(spec) << ", key " << item.k_begin + key << ", head " << head;
      }
    }
  }
  EXPECT_EQ(static_cast<std::int64_t>(tiles.size()),
            spec.batch * spec.num_kv_heads * ceil_div(spec.kv_len, 128));
  for (std::size_t i = 1; i < image.items.size(); ++i) {
    const auto bucket = [](const device::KeyItem& item) {
      return device::order_bucket(item.num_partial + item.num_full);
    };
    EXPECT_LE(bucket(image.items[i - 1]), bucket(image.items[i]));
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
    c.spec.gradients = random.next_below(2) == 0;
    fill_lists(c, random);
    EmulatedPlan plan(c, i);
    expect_pairs_of_mask(c, plan);
    expect_order(plan);
    expect_columns(c, plan);
    // What was there before does not matter.
    fill_lists(c, random);
    plan.update(c, i + 1);
    expect_pairs_of_mask(c, plan);
    expect_columns(c, plan);
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
      const device::Item& item = plan.rows().items.front();
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
  for (const device::Item& item : plan.rows().items) {
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
  EXPECT_EQ(plan.sections().num_ctas(), 4);
  expect_order(plan);
  std::set<std::pair<int, int>> rows;
  for (const device::Item& item : plan.rows().items) rows.emplace(item.q_head, item.q_begin);
  EXPECT_EQ(rows.size(), plan.rows().items.size());
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
