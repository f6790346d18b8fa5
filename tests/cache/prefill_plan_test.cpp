#include "perpend/cache/prefill_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cache/block_masks.h"
#include "tests/campaign.h"

namespace perpend {
namespace {

constexpr std::int64_t kPlanBlock = 4;
constexpr std::int64_t kPlanMaxLen = 60;

bool block_sees(const Mask& mask, std::int64_t block, std::int64_t other) {
  for (std::int64_t q = block * kPlanBlock; q < (block + 1) * kPlanBlock; ++q) {
    for (std::int64_t k = other * kPlanBlock; k < (other + 1) * kPlanBlock; ++k) {
      for (int head = 0; head < 2; ++head) {
        if (mask.visible(q, k, {head, head})) return true;
      }
    }
  }
  return false;
}

bool seen_later(const Mask& mask, std::int64_t block, std::int64_t next_q) {
  for (std::int64_t q = next_q; q < kPlanMaxLen; ++q) {
    for (std::int64_t k = block * kPlanBlock; k < (block + 1) * kPlanBlock; ++k) {
      for (int head = 0; head < 2; ++head) {
        if (mask.visible(q, k, {head, head})) return true;
      }
    }
  }
  return false;
}

// What lies in a cache, drawn at random, and what a plan makes of it.
struct PlannedPrompt {
  PlannedPrompt(Random& random, int num_layers, std::int32_t blocks)
      : masks(random_layer_masks(random, num_layers, kPlanBlock)),
        num_blocks(blocks),
        visibility(masks, kPlanBlock, kPlanMaxLen, 2, 2) {
    const std::uint64_t share = random.next_below(5);
    for (auto* table : {&keys, &rows}) {
      for (int i = 0; i < (num_layers + 1) * num_blocks; ++i) {
        table->push_back(random.next_below(4) < share);
      }
    }
    runs = plan_prefill(visibility, num_blocks,
                        {[&](int layer, std::int32_t block) { return has(keys, layer, block); },
                         [&](int layer, std::int32_t block) { return has(rows, layer, block); }});
  }
  bool has(const std::vector<bool>& table, std::int64_t layer, std::int64_t block) const {
    return table[static_cast<std::size_t>(layer * num_blocks + block)];
  }
  bool runs_layer(std::int64_t layer, std::int64_t block) const {
    return runs[static_cast<std::size_t>(block)].contains(layer);
  }
  // In its last layer a block only makes keys.
  bool attends(std::int64_t layer, std::int64_t block) const {
    return runs_layer(layer, block) && runs_layer(layer + 1, block);
  }
  bool has_keys(std::int64_t layer, std::int64_t block) const {
    return runs_layer(layer, block) || has(keys, layer, block);
  }

  std::vector<Mask> masks;
  std::int32_t num_blocks;
  BlockVisibility visibility;
  std::vector<bool> keys;  // [layer][block]
  std::vector<bool> rows;
  std::vector<Range> runs;
};

TEST(PrefillPlan, EveryKeyThatARowSeesIsThereAndEveryRowHasItsInput) {
  Random random(17);
  for (int i = num_trials(200); i > 0; --i) {
    const auto num_layers = static_cast<int>(1 + random.next_below(6));
    const PlannedPrompt plan(random, num_layers, static_cast<std::int32_t>(random.next_below(11)));
    for (std::int64_t block = 0; block < plan.num_blocks; ++block) {
      const Range run = plan.runs[static_cast<std::size_t>(block)];
      if (!run.empty() && run.begin > 0) {
        EXPECT_TRUE(plan.has(plan.rows, run.begin, block));
        EXPECT_THAT(plan.visibility.checkpoints(), testing::Contains(run.begin));
      }
      for (std::int64_t layer = 0; layer < num_layers; ++layer) {
        const Mask& mask = plan.masks[static_cast<std::size_t>(layer)];
        for (std::int64_t other = 0; plan.attends(layer, block) && other < block; ++other) {
          ASSERT_TRUE(!block_sees(mask, block, other) || plan.has_keys(layer, other))
              << "layer " << layer << " of block " << block << " sees block " << other;
        }
        ASSERT_TRUE(!seen_later(mask, block, plan.num_blocks * kPlanBlock) ||
                    plan.has_keys(layer, block))
            << "layer " << layer << " of block " << block;
      }
    }
  }
}

Range none() { return {}; }

// In layers: two sparse ones, two full ones, two sparse ones.
class Hourglass : public testing::Test {
 protected:
  std::vector<Range> plan(std::int32_t num_blocks,
                          FunctionRef<bool(int layer, std::int32_t block)> has_keys,
                          FunctionRef<bool(int layer, std::int32_t block)> has_rows) {
    std::vector<Range> runs = plan_prefill(visibility_, num_blocks, {has_keys, has_rows});
    for (Range& run : runs) {
      if (run.empty()) run = none();
    }
    return runs;
  }

  const Mask sparse_ = parse_mask("longgen_sink(4, 0, 2)");
  BlockVisibility visibility_{
      std::vector<Mask>{sparse_, sparse_, Mask::causal(), Mask::causal(), sparse_, sparse_},
      kPlanBlock, kPlanMaxLen};
};

TEST_F(Hourglass, LayersWhoseKeysNobodySeesDoNotRun) {
  const auto nothing = [](int, std::int32_t) { return false; };
  // The rows after the prompt see one block of it in layers 4 and 5; what that block is in layer 5
  // depends on one block more in layer 4.
  EXPECT_THAT(plan(6, nothing, nothing),
              testing::ElementsAre(Range{0, 4}, Range{0, 4}, Range{0, 4}, Range{0, 4}, Range{0, 5},
                                   Range{0, 6}));
}

TEST_F(Hourglass, AnEditRunsWhatDependsOnIt) {
  // Block 1 was edited: layers 0 and 1 carry it one block further each; the full layers carry it
  // everywhere, from the rows at their input on.
  const auto in_sparse = [](int layer, std::int32_t block) {
    return layer < 2 && (block < 1 || block > 1 + layer);
  };
  const auto has_keys = [&](int layer, std::int32_t block) {
    return block == 0 || in_sparse(layer, block) || (layer == 2 && block > 3);
  };
  const auto has_rows = [](int, std::int32_t block) { return block == 0 || block > 3; };
  EXPECT_THAT(plan(6, has_keys, has_rows),
              testing::ElementsAre(none(), Range{0, 4}, Range{0, 4}, Range{0, 4}, Range{2, 5},
                                   Range{2, 6}));
}

TEST_F(Hourglass, NothingRunsWhereAllIsStored) {
  const auto everything = [](int, std::int32_t) { return true; };
  EXPECT_THAT(plan(3, everything, everything), testing::Each(none()));
  EXPECT_TRUE(plan(0, everything, everything).empty());
}

}  // namespace
}  // namespace perpend
