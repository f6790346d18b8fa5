#include "perpend/cache/block_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "tests/cache/block_masks.h"
#include "tests/campaign.h"
#include "tests/mask/random_mask.h"

namespace perpend {
namespace {

constexpr std::int64_t kKeyBlock = 4;
constexpr std::int32_t kNumBlocks = 9;
constexpr std::int64_t kNumTokens = kKeyBlock * kNumBlocks;
constexpr int kNumQueryHeads = 4;
constexpr int kNumKvHeads = 2;

// depends[layer][row][position]: whether what a row is at the input of a layer depends on a token.
// Row by row from the definition of the masks; a row sees nothing after its own block.
using Dependence = std::vector<std::vector<std::vector<bool>>>;

bool sees(const Mask& mask, std::int64_t q, std::int64_t k) {
  if (k / kKeyBlock > q / kKeyBlock) return false;
  for (int head = 0; head < kNumQueryHeads; ++head) {
    if (mask.visible(q, k, {head, head / (kNumQueryHeads / kNumKvHeads)})) return true;
  }
  return false;
}

Dependence dependence_of(std::span<const Mask> masks) {
  Dependence depends(1, std::vector<std::vector<bool>>(kNumTokens, std::vector<bool>(kNumTokens)));
  for (std::size_t row = 0; row < kNumTokens; ++row) depends[0][row][row] = true;
  for (const Mask& mask : masks) {
    std::vector<std::vector<bool>> next = depends.back();
    for (std::int64_t q = 0; q < kNumTokens; ++q) {
      for (std::int64_t k = 0; k < kNumTokens; ++k) {
        if (!sees(mask, q, k)) continue;
        for (std::size_t token = 0; token < kNumTokens; ++token) {
          if (depends.back()[static_cast<std::size_t>(k)][token]) {
            next[static_cast<std::size_t>(q)][token] = true;
          }
        }
      }
    }
    depends.push_back(next);
  }
  return depends;
}

struct KeyedTokens {
  explicit KeyedTokens(std::span<const Mask> masks)
      : visibility(masks, kKeyBlock, kNumTokens, kNumQueryHeads, kNumKvHeads) {}
  BlockKeys keys(std::span<const std::int32_t> tokens) {
    return {visibility, SipHash(1, 2), tokens, kNumBlocks};
  }
  BlockVisibility visibility;
};

// Edits one token and holds what became of the keys against the dependence. `exact`: a key also
// stays where nothing depends on the token.
void expect_keys_follow_edits(std::span<const Mask> masks, bool exact, Random& random) {
  const Dependence depends = dependence_of(masks);
  KeyedTokens keyed(masks);
  std::vector<std::int32_t> tokens(kNumTokens);
  for (auto& token : tokens) token = static_cast<std::int32_t>(random.next_below(3));
  const BlockKeys before = keyed.keys(tokens);
  const auto edited = static_cast<std::size_t>(random.next_below(kNumTokens));
  tokens[edited] += 5;
  const BlockKeys after = keyed.keys(tokens);
  for (int layer = 0; layer <= static_cast<int>(masks.size()); ++layer) {
    for (std::int32_t block = 0; block < kNumBlocks; ++block) {
      bool touched = false;
      for (std::int64_t row = block * kKeyBlock; row < (block + 1) * kKeyBlock; ++row) {
        touched |= depends[static_cast<std::size_t>(layer)][static_cast<std::size_t>(row)][edited];
      }
      const bool kept = before.at(layer, block) == after.at(layer, block);
      if (touched) {
        ASSERT_FALSE(kept) << "layer " << layer << " block " << block << " token " << edited;
      } else if (exact) {
        ASSERT_TRUE(kept) << "layer " << layer << " block " << block << " token " << edited;
      }
    }
  }
}

TEST(BlockKeys, ChangeWithEveryTokenThatARowDependsOnAndNoOther) {
  Random random(7);
  for (int i = num_trials(40); i > 0; --i) {
    const auto num_layers = static_cast<int>(1 + random.next_below(5));
    // Blocks of the masks are those of the keys, so that what a block sees is known exactly.
    std::vector<Mask> masks;
    for (const Mask& mask : random_layer_masks(random, num_layers, kKeyBlock)) {
      masks.push_back(mask.str().find("window") == std::string::npos ? mask : Mask::causal());
    }
    // A block depends on all that its rows do; rows of one block may see each other or not, which a
    // key does not tell apart: mark them alike.
    for (Mask& mask : masks) mask = mask | (Mask::same(Label::block(kKeyBlock)));
    expect_keys_follow_edits(masks, true, random);
  }
}

TEST(BlockKeys, NeverOutliveAnEditUnderAnyMask) {
  Random random(8);
  for (int i = num_trials(40); i > 0; --i) {
    std::vector<Mask> masks = random_layer_masks(random, 2, 3);
    masks.push_back(random_mask(random, kNumTokens));
    masks.push_back(random_mask_of_length(random, kNumTokens, kNumTokens));
    expect_keys_follow_edits(masks, false, random);
  }
}

TEST(BlockKeys, TellPlacesLayersAndSizesApart) {
  const std::vector<Mask> masks(2, parse_mask("causal & same(block(4))"));
  KeyedTokens keyed(masks);
  const std::vector<std::int32_t> tokens(kNumTokens, 3);
  const BlockKeys keys = keyed.keys(tokens);
  EXPECT_FALSE(keys.at(0, 0) == keys.at(0, 1));
  EXPECT_FALSE(keys.at(0, 1) == keys.at(1, 1));
  BlockVisibility coarse(masks, 2 * kKeyBlock, kNumTokens);
  const BlockKeys others(coarse, SipHash(1, 2), tokens, 1);
  EXPECT_FALSE(keys.at(0, 0) == others.at(0, 0));
}

TEST(BlockVisibility, CheckpointsStandWhereLayersBeginToSeeMore) {
  const Mask sparse = parse_mask("longgen_sink(4, 1, 2)");
  const Mask narrow = parse_mask("causal & window(3)");
  const Mask full = Mask::causal();
  const auto checkpoints = [](const std::vector<Mask>& masks) {
    const BlockVisibility visibility(masks, 4, 100);
    return std::vector<int>(visibility.checkpoints().begin(), visibility.checkpoints().end());
  };
  EXPECT_THAT(checkpoints({sparse, sparse, full, full, sparse}), testing::ElementsAre(2));
  EXPECT_THAT(checkpoints({full, sparse, full}), testing::ElementsAre());
  EXPECT_THAT(checkpoints({sparse, sparse}), testing::ElementsAre());
  EXPECT_THAT(checkpoints({narrow, sparse, sparse, full}), testing::ElementsAre(1, 3));
  EXPECT_THROW(BlockVisibility(std::vector<Mask>{full}, 0, 100), InvalidArgument);
}

// Vectors of the reference implementation: the key 00 01 ... 0f, and none or the bytes 00 to 07.
TEST(SipHash, AgreesWithTheReferenceVectors) {
  SipHash hash(0x0706050403020100, 0x0f0e0d0c0b0a0908);
  EXPECT_EQ(SipHash(hash).finish(), (Digest{0xe6a825ba047f81a3, 0x930255c71472f66d}));
  hash.add(0x0706050403020100);
  EXPECT_EQ(SipHash(hash).finish(), (Digest{0x61f55862baa9623b, 0xb49714f364e2830f}));
}

}  // namespace
}  // namespace perpend
