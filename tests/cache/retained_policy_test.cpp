#include "perpend/cache/retained_policy.h"

#include <gtest/gtest.h>

#include "tests/cache/block_masks.h"
#include "tests/campaign.h"

namespace perpend {
namespace {

TEST(RetainedPolicy, KeepsExactlyThePagesThatCanStillBeSeen) {
  KvStore store({.num_layers = 2,
                 .num_kv_heads = 1,
                 .head_dim = 8,
                 .page_size = 4,
                 .dtype = DType::kF32,
                 .max_tokens = 200});
  KvSequence sequence(store);
  const Mask hybrid = parse_mask("causal & (sink(5) | window(10))");
  RetainedPolicy policy({hybrid, Mask::causal()}, 200);
  for (std::int64_t length = 1; length <= 150; ++length) {
    ASSERT_TRUE(sequence.append(1));
    policy.commit(sequence, length);
    for (std::int64_t page = 0; page < static_cast<std::int64_t>(sequence.page_table(0).size());
         ++page) {
      bool visible = false;
      for (std::int64_t q = length; q < 200; ++q) {
        for (std::int64_t k = 4 * page; k < 4 * page + 4; ++k) visible |= hybrid.visible(q, k);
      }
      const bool held =
          sequence.page_table(0)[static_cast<std::size_t>(page)] != KvSequence::kNoPage;
      if (visible) {
        EXPECT_TRUE(held) << length << " " << page;
      }
      // Pages go when a page boundary is passed, so a dead one may stay for three tokens more.
      if (held && length % 4 == 0) {
        EXPECT_TRUE(visible || 4 * page + 4 > length) << length << " " << page;
      }
    }
    EXPECT_EQ(sequence.page_table(1).back() == KvSequence::kNoPage, false);
  }
  // Two pages of sinks and at most four of the window, in the first layer; everything in the
  // second.
  EXPECT_LE(sequence.held_bytes(), (6 + 38) * store.page_bytes());
}

// Whatever the steps are, and wherever they begin.
TEST(RetainedPolicy, EnoughPagesAreEnough) {
  Random random(3);
  for (int i = num_trials(60); i > 0; --i) {
    const auto below = [&](std::uint64_t bound) {
      return static_cast<std::int64_t>(random.next_below(bound));
    };
    const RetainedGrowth growth{.max_len = 40 + below(100), .step = 1 + below(20), .page_size = 4};
    const std::vector<Mask> masks = random_layer_masks(random, 3, 4);
    KvStore store({.num_layers = 3,
                   .num_kv_heads = 1,
                   .head_dim = 2,
                   .page_size = 4,
                   .dtype = DType::kF32,
                   .max_tokens = growth.max_len,
                   .max_pages = enough_pages(masks, growth)});
    KvSequence sequence(store);
    RetainedPolicy policy(masks, growth.max_len);
    while (sequence.length() < growth.max_len) {
      const std::int64_t step = 1 + below(static_cast<std::uint64_t>(growth.step));
      ASSERT_TRUE(sequence.append(std::min(step, growth.max_len - sequence.length())));
      policy.commit(sequence, sequence.length());
    }
  }
}

TEST(RetainedPolicy, EnoughPagesAreFewWhereMasksLetThemGo) {
  const RetainedGrowth growth{.max_len = 131072, .step = 512};
  EXPECT_EQ(enough_pages(std::vector<Mask>{Mask::causal()}, growth), 2049);
  const Mask sparse = parse_mask("longgen_sink(64, 1, 31)");
  EXPECT_EQ(enough_pages(std::vector<Mask>{sparse, sparse}, growth), 2 * (1 + 30 + 16 + 1));
}

}  // namespace
}  // namespace perpend
