#include "perpend/mask/block_census.h"

#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/core/random.h"
#include "tests/campaign.h"
#include "tests/mask/random_mask.h"

namespace perpend {
namespace {

BlockCensus brute_force(const Mask& mask, std::int64_t num_tokens, std::int64_t block_size,
                        int num_q_heads, int num_kv_heads) {
  BlockCensus census;
  for (int head = 0; head < num_q_heads; ++head) {
    const HeadIndex index{head, head / (num_q_heads / num_kv_heads)};
    for (std::int64_t q_begin = 0; q_begin < num_tokens; q_begin += block_size) {
      for (std::int64_t k_begin = 0; k_begin < num_tokens; k_begin += block_size) {
        std::int64_t pairs = 0;
        for (std::int64_t q = q_begin; q < std::min(num_tokens, q_begin + block_size); ++q) {
          for (std::int64_t k = k_begin; k < std::min(num_tokens, k_begin + block_size); ++k) {
            pairs += mask.visible(q, k, index) ? 1 : 0;
          }
        }
        census.live_pairs += pairs;
        census.live_blocks += pairs > 0 ? 1 : 0;
      }
    }
  }
  return census;
}

TEST(BlockCensus, CountsWhatAPairByPairCountFinds) {
  Random random(20261127);
  for (int i = num_trials(60); i > 0; --i) {
    const auto num_tokens = static_cast<std::int64_t>(1 + random.next_below(150));
    const auto block_size = static_cast<std::int64_t>(1 + random.next_below(80));
    const Mask mask = random_mask(random, num_tokens);
    const BlockCensus expected = brute_force(mask, num_tokens, block_size, 4, 2);
    const BlockCensus found = count_blocks(mask, num_tokens, block_size, 4, 2);
    ASSERT_EQ(found.live_blocks, expected.live_blocks)
        << mask << " " << num_tokens << " " << block_size;
    ASSERT_EQ(found.live_pairs, expected.live_pairs)
        << mask << " " << num_tokens << " " << block_size;
  }
}

TEST(BlockCensus, WrongSizesAreRefused) {
  EXPECT_THROW(count_blocks(Mask::causal(), 8, 0), InvalidArgument);
  EXPECT_THROW(count_blocks(Mask::causal(), -1, 8), InvalidArgument);
  EXPECT_THROW(count_blocks(Mask::causal(), 8, 8, 3, 2), InvalidArgument);
  EXPECT_EQ(count_blocks(Mask::causal(), 0, 8).live_pairs, 0);
}

}  // namespace
}  // namespace perpend
