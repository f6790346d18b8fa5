// The cache that LongGen's masks leave (arXiv:2410.01485): what is cached when a token attends is
// what it sees, and the other pages are free.

#include <gtest/gtest.h>

#include "perpend/cache/kv_sequence.h"
#include "perpend/cache/retained_policy.h"
#include "perpend/core/concat.h"

namespace perpend {
namespace {

// The paper's formula, from positions alone.
struct Formula {
  int block, sink, window, stride, shift;
  bool operator()(std::int64_t i, std::int64_t j, int kv_head) const {
    const std::int64_t qb = i / block;
    const std::int64_t kb = j / block;
    const bool strided = stride > 0 && (kb + shift * kv_head) % stride == 0;
    return j <= i && (qb - kb < window || kb < sink || strided);
  }
};

class LongGenCache : public testing::TestWithParam<Formula> {};

std::string mask_of(const Formula& f) {
  if (f.stride == 0) return concat("longgen_sink(", f.block, ", ", f.sink, ", ", f.window, ")");
  return concat("longgen_strided(", f.block, ", ", f.window, ", ", f.stride, ", ", f.shift, ", ",
                f.sink, ")");
}

TEST_P(LongGenCache, HoldsWhatTheLastTokenSeesAndFreesTheRest) {
  constexpr int kNumHeads = 3;
  constexpr std::int64_t kLength = 230;
  const Formula allow = GetParam();
  KvStore store({.num_layers = 2,
                 .num_kv_heads = kNumHeads,
                 .head_dim = 2,
                 .page_size = allow.block,
                 .dtype = DType::kF32,
                 .max_tokens = kLength});
  KvSequence sequence(store);
  RetainedPolicy policy({parse_mask(mask_of(allow)), Mask::causal()}, kLength, kNumHeads,
                        kNumHeads);
  for (std::int64_t token = 0; token < kLength; ++token) {
    ASSERT_TRUE(sequence.append(1));
    std::int64_t num_held = 0;
    for (std::int64_t j = 0; j <= token; ++j) {
      bool seen = false;
      for (int head = 0; head < kNumHeads; ++head) seen |= allow(token, j, head);
      const auto page = static_cast<std::size_t>(j / allow.block);
      const bool held = sequence.page_table(0)[page] != KvSequence::kNoPage;
      ASSERT_EQ(held, seen) << mask_of(allow) << " token " << token << " key " << j;
      num_held += held && j % allow.block == 0 ? 1 : 0;
    }
    const std::int64_t num_blocks = token / allow.block + 1;
    ASSERT_EQ(store.pool().num_used(), num_held + num_blocks);
    policy.commit(sequence, token + 1);
  }
}

INSTANTIATE_TEST_SUITE_P(Settings, LongGenCache,
                         testing::Values(Formula{8, 1, 3, 0, 0}, Formula{4, 2, 1, 0, 0},
                                         Formula{8, 0, 2, 4, 0}, Formula{4, 1, 2, 5, 0},
                                         Formula{4, 0, 2, 6, 2}, Formula{16, 1, 20, 0, 0}));

// Chunks of a prompt hold a chunk more than single tokens do, whatever its length.
TEST(LongGenCacheChunks, ThePeakOfSparseLayersDoesNotGrowWithThePrompt) {
  constexpr std::int64_t kPage = 64;
  constexpr std::int64_t kChunk = 512;
  const auto peak_pages = [&](const char* mask, std::int64_t length) {
    KvStore store({.num_layers = 1,
                   .num_kv_heads = 1,
                   .head_dim = 2,
                   .dtype = DType::kF16,
                   .max_tokens = length});
    KvSequence sequence(store);
    RetainedPolicy policy({parse_mask(mask)}, length);
    for (std::int64_t done = 0; done < length; done += kChunk) {
      EXPECT_TRUE(sequence.append(kChunk));
      policy.commit(sequence, done + kChunk);
    }
    return std::int64_t{store.pool().peak_used()};
  };
  for (const std::int64_t length : {8192, 32768, 131072}) {
    EXPECT_EQ(peak_pages("longgen_sink(64, 1, 31)", length), 1 + 30 + kChunk / kPage);
    const std::int64_t anchors = (length - kChunk - 15 * kPage + 128 * kPage - 1) / (128 * kPage);
    EXPECT_EQ(peak_pages("longgen_strided(64, 16, 128)", length), 15 + anchors + kChunk / kPage);
    EXPECT_EQ(peak_pages("causal", length), length / kPage);
  }
}

}  // namespace
}  // namespace perpend
