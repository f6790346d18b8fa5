#include "perpend/mask/retention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/mask/bindings.h"
#include "tests/campaign.h"
#include "tests/mask/random_mask.h"

namespace perpend {
namespace {

constexpr std::int64_t kMaxLen = 24;
constexpr int kNumQueryHeads = 4;
constexpr int kNumKvHeads = 2;

// Whether a later query of a head of the group sees one of `keys`, by the definition.
bool ever_seen(const Mask& mask, int kv_head, Range keys, std::int64_t next_q) {
  for (int h = 2 * kv_head; h < 2 * kv_head + 2; ++h) {
    for (std::int64_t q = next_q; q < kMaxLen; ++q) {
      for (std::int64_t k = keys.begin; k < keys.end; ++k) {
        if (mask.visible(q, k, {h, kv_head})) return true;
      }
    }
  }
  return false;
}

// At these sizes every answer is exact, so nothing visible is dropped and nothing dead is kept.
void expect_exact(const Mask& mask) {
  const Retention retention(mask, kMaxLen, kNumQueryHeads, kNumKvHeads);
  for (std::int64_t next_q = 0; next_q <= kMaxLen; ++next_q) {
    for (const std::int64_t size : {1, 3, 4}) {
      for (std::int64_t begin = 0; begin + size <= kMaxLen; begin += size) {
        const Range keys{begin, begin + size};
        bool any = false;
        for (int g = 0; g < kNumKvHeads; ++g) {
          const bool seen = ever_seen(mask, g, keys, next_q);
          ASSERT_EQ(retention.may_be_seen(g, keys, next_q), seen)
              << mask << keys << " next query " << next_q << " head " << g;
          any |= seen;
        }
        ASSERT_EQ(retention.may_be_seen(keys, next_q), any) << mask << keys << next_q;
      }
    }
  }
}

TEST(Retention, KeepsWhatIsVisibleAndNothingElse) {
  Random random(1);
  for (int i = num_trials(60); i > 0; --i) {
    expect_exact(random_mask(random, kMaxLen));
    expect_exact(random_mask_of_length(random, kMaxLen, kMaxLen));
  }
}

TEST(Retention, IsExactForTheMasksOfPapers) {
  for (const char* text :
       {"causal", "causal & window(4)", "causal & (sink(3) | window(5))",
        "causal & (sink(4) | window(1))", "longgen_sink(4, 1, 2)", "longgen_strided(3, 2, 3, 1)",
        "longgen_strided(2, 1, 4, 1, 1)", "blockrank(doc, 4)", "block_causal(4)",
        "block_decode(4, 6)", "frames(4, 2, 3)", "rolling_frames(3, 2)", "chunks(5, 3)",
        "dreamvla(3, 2, 1)", "dreamvla_pretrain(3, 2, 1, 2)", "swin(4, 6, 2, 4)",
        "block_diffusion(12, 3)", "context_causal(12, 4)"}) {
    expect_exact(parse_mask(text).bind(parse_bindings("doc = segments(4, 5, 6, 3, 6)")));
  }
}

// In long sequences too a page goes when its last key does: what is held against what is visible.
TEST(Retention, KeepsNoDeadPageOfLongSequences) {
  const std::int64_t max_len = 200000;
  for (const char* text : {"causal & (sink(64) | window(448))", "longgen_sink()",
                           "longgen_strided()", "rolling_frames(336, 32)", "blockrank(doc, 501)"}) {
    const Mask mask = parse_mask(text).bind(parse_bindings("doc = segments(200*501, 99800)"));
    const Retention retention(mask, max_len);
    const BoundMask bound(mask);
    for (const std::int64_t num_tokens : {1000, 20000, 98765}) {
      for (std::int64_t begin = 0; begin + 64 <= num_tokens; begin += 64 * 7) {
        bool seen = false;
        // A key that is seen by no query soon is seen by the last one or by none, in these masks.
        for (std::int64_t k = begin; k < begin + 64; ++k) {
          for (std::int64_t q = num_tokens; q < num_tokens + 12000; q += 64) {
            seen |= bound.word(Sweep::kColumns, k, q) != 0;
          }
          seen |= bound.visible(max_len - 1, k);
        }
        ASSERT_EQ(retention.may_be_seen({begin, begin + 64}, num_tokens), seen)
            << text << " page at " << begin << " after " << num_tokens;
      }
    }
  }
}

// LongGen, section 7a: blocks of 64 that a sparse layer keeps, the one being filled included.
TEST(Retention, KeepsTheBlocksOfLongGen) {
  const Retention sink(parse_mask("longgen_sink()"), 1 << 20);
  const Retention strided(parse_mask("longgen_strided()"), 1 << 20);
  const Retention dense_strided(parse_mask("longgen_strided(64, 16, 64)"), 1 << 20);
  const auto blocks = [](const Retention& retention, std::int64_t n) {
    return retention.retained_pages(n - 63, 64);
  };
  EXPECT_EQ(blocks(sink, 4096), 32);
  EXPECT_EQ(blocks(sink, 131072), 32);
  EXPECT_EQ(blocks(strided, 4096), 17);
  EXPECT_EQ(blocks(strided, 16384), 18);
  EXPECT_EQ(blocks(strided, 131072), 32);
  EXPECT_EQ(blocks(dense_strided, 16384), 20);
  EXPECT_EQ(blocks(dense_strided, 131072), 48);
}

TEST(Retention, KeptKeysAreRangesOfPages) {
  const Retention retention(parse_mask("causal & (sink(64) | window(448))"), 8192);
  using testing::ElementsAre;
  EXPECT_THAT(retention.kept_keys(6400, 64), ElementsAre(Range{0, 64}, Range{5952, 6400}));
  EXPECT_THAT(retention.kept_keys(6401, 64), ElementsAre(Range{0, 64}, Range{5952, 6464}));
  EXPECT_THAT(retention.kept_keys(6401, 1), ElementsAre(Range{0, 64}, Range{5954, 6401}));
  EXPECT_THAT(retention.kept_keys(0, 64), ElementsAre());
  // One page of sinks, seven of window, one more while the window straddles two.
  EXPECT_EQ(retention.retained_bytes(6400, 64, 10), 8 * 64 * 10);
  EXPECT_EQ(retention.retained_bytes(6401, 64, 10), 9 * 64 * 10);
  EXPECT_EQ(Retention(Mask::causal(), 8192).retained_bytes(6400, 64, 10), 6400 * 10);
}

TEST(Retention, RefusesWhatItCanNotAsk) {
  EXPECT_THROW(Retention(parse_mask("same(doc)"), 8), InvalidArgument);
  EXPECT_THROW(Retention(parse_mask("heads(0: causal)"), 8, 2, 1), InvalidArgument);
  EXPECT_THROW(Retention(Mask::causal(), 8, 3, 2), InvalidArgument);
}

}  // namespace
}  // namespace perpend
