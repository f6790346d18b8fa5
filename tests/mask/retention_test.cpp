#include "perpend/mask/retention.h"

#include <gtest/gtest.h>

#include "tests/campaign.h"
#include "tests/mask/random_mask.h"

namespace perpend {
namespace {

constexpr std::int64_t kMaxLen = 20;

bool ever_seen(const Mask& mask, Range keys, std::int64_t next_q) {
  for (std::int64_t q = next_q; q < kMaxLen; ++q) {
    for (std::int64_t k = keys.begin; k < keys.end; ++k) {
      if (mask.visible(q, k)) return true;
    }
  }
  return false;
}

TEST(Retention, NeverDropsAKeyThatIsStillVisible) {
  Random random(1);
  for (int i = num_trials(300); i > 0; --i) {
    const Mask mask = random_mask(random, kMaxLen);
    for (std::int64_t next_q = 0; next_q <= kMaxLen; ++next_q) {
      for (std::int64_t begin = 0; begin < kMaxLen; ++begin) {
        for (std::int64_t size : {1, 4}) {
          const Range keys{begin, begin + size};
          if (ever_seen(mask, keys, next_q)) {
            EXPECT_TRUE(Retention(mask, kMaxLen).may_be_seen(keys, next_q))
                << mask << keys << next_q;
          }
        }
      }
    }
  }
}

TEST(Retention, KeepsNoDeadPageOfSinkAndWindowMasks) {
  for (const char* text : {"causal & (sink(3) | window(5))", "causal & window(4)", "causal",
                           "causal & (sink(4) | window(1))"}) {
    const Mask mask = parse_mask(text);
    for (std::int64_t next_q = 0; next_q <= kMaxLen; ++next_q) {
      for (std::int64_t begin = 0; begin < kMaxLen; begin += 4) {
        const Range keys{begin, begin + 4};
        EXPECT_EQ(Retention(mask, kMaxLen).may_be_seen(keys, next_q), ever_seen(mask, keys, next_q))
            << text << keys << next_q;
      }
    }
  }
}

TEST(Retention, BytesOfASinkAndAWindow) {
  const Mask mask = parse_mask("causal & (sink(64) | window(448))");
  // One page of sinks, seven of window, one more while the window straddles two, in pages of 64.
  EXPECT_EQ(Retention(mask, 8192).retained_bytes(6400, 64, 10), 8 * 64 * 10);
  EXPECT_EQ(Retention(mask, 8192).retained_bytes(6401, 64, 10), 9 * 64 * 10);
  EXPECT_EQ(Retention(Mask::causal(), 8192).retained_bytes(6400, 64, 10), 6400 * 10);
}

}  // namespace
}  // namespace perpend
