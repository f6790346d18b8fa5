// The figures that follow from the mask and the shapes alone (arXiv:2510.05396: 160 tokens a block,
// Mistral 7B), counted by hand, by the plan of the mask, and by the cost functions.

#include "perpend/rank/rank_cost.h"

#include <gtest/gtest.h>

#include "perpend/mask/bindings.h"
#include "perpend/schedule/cost.h"

namespace perpend {
namespace {

constexpr std::int64_t kLength = 160;

ModelConfig mistral() {
  ModelConfig config;
  config.model_dim = 4096;
  config.ffn_dim = 14336;
  config.num_layers = 32;
  config.num_q_heads = 32;
  config.num_kv_heads = 8;
  config.head_dim = 128;
  return config;
}

ScheduleCost planned(const RankLengths& lengths, int tile) {
  std::vector<Label::Run> runs = {{lengths.instruction, 1}};
  for (const std::int64_t length : lengths.documents) runs.push_back({length, 1});
  runs.push_back({lengths.query, 1});
  const Mask mask = parse_mask(concat("blockrank(doc, ", lengths.documents.size() + 1, ")"))
                        .bind(Bindings().set("doc", Label::segments(runs)));
  const std::int64_t tokens = lengths.num_tokens();
  return cost_of(compile(mask, {{{tokens, tokens, 0}}, 1, 1}, plain_tiling(tile, tile)));
}

TEST(RankLengths, PairsAreThoseOfTheMask) {
  const RankLengths ragged{7, {1, 30, 12, 64, 5}, 9};
  EXPECT_EQ(planned(ragged, 16).live_pairs, ragged.live_pairs());
  const RankLengths equal = RankLengths::equal(30, kLength);
  EXPECT_EQ(planned(equal, 32).live_pairs, equal.live_pairs());
  constexpr std::int64_t kN = 30;
  EXPECT_EQ(equal.live_pairs(),
            (kN + 2) * kLength * (kLength + 1) / 2 + (2 * kN + 1) * kLength * kLength);
}

TEST(RankLengths, TilesAreThoseOfThePlan) {
  const auto tiles = [](std::int64_t num_documents) {
    const ScheduleCost cost = planned(RankLengths::equal(num_documents, kLength), 32);
    return cost.full_tiles + cost.partial_tiles;
  };
  EXPECT_EQ(tiles(30), 2005);
  EXPECT_EQ(tiles(100), 6555);
  EXPECT_EQ(tiles(500), 32555);
}

struct Figures {
  std::int64_t num_documents;
  std::int64_t tokens;
  double live_percent;
  double linear;  // TFLOP, as all that follow
  double attention;
  double causal_attention;
  double causal;
  double block;
  double rank;
};

TEST(RankCost, FiguresOfMistralAreThoseOfTheTable) {
  constexpr Figures kTable[] = {
      {10, 1920, 37.53, 0.838, 0.011, 0.030, 27.8, 27.2, 17.0},
      {20, 3520, 21.51, 1.535, 0.022, 0.102, 52.4, 49.8, 31.2},
      {50, 8320, 9.404, 3.629, 0.053, 0.567, 134.3, 117.8, 73.7},
      {100, 16320, 4.850, 7.119, 0.106, 2.182, 297.6, 231.2, 144.6},
      {200, 32320, 2.464, 14.10, 0.211, 8.557, 725.0, 457.9, 286.5},
      {500, 80320, 0.995, 35.04, 0.526, 52.85, 2812, 1138, 711.9},
  };
  for (const Figures& row : kTable) {
    SCOPED_TRACE(row.num_documents);
    const RankLengths lengths = RankLengths::equal(row.num_documents, kLength);
    const RankCost cost = rank_cost(mistral(), lengths, 20);
    // To the digits that are printed: half a unit of the last of three or four.
    const auto near = [](double found, double expected) {
      EXPECT_NEAR(found * 1e-12, expected, std::max(6e-4 * expected, 5.1e-4));
    };
    EXPECT_EQ(lengths.num_tokens(), row.tokens);
    // Of all T^2 / 2 pairs.
    EXPECT_NEAR(100.0 * static_cast<double>(lengths.live_pairs()) /
                    static_cast<double>(lengths.causal_pairs()),
                row.live_percent, 6e-4 * row.live_percent);
    near(cost.linear_flops, row.linear);
    near(cost.block_attention_flops, row.attention);
    near(cost.causal_attention_flops, row.causal_attention);
    EXPECT_NEAR(cost.causal_flops() * 1e-12, row.causal, 2e-3 * row.causal);
    EXPECT_NEAR(cost.block_flops() * 1e-12, row.block, 2e-3 * row.block);
    EXPECT_NEAR(cost.rank_flops() * 1e-12, row.rank, 2e-3 * row.rank);
  }
}

TEST(RankCost, BytesOfMistral) {
  const auto mebibytes = [](std::int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); };
  const RankCost hundred = rank_cost(mistral(), RankLengths::equal(100, kLength), 20);
  EXPECT_EQ(hundred.decode_kv_bytes, 131072 * 16320);
  EXPECT_NEAR(mebibytes(hundred.layer_kv_bytes), 64, 0.5);
  EXPECT_NEAR(mebibytes(hundred.score_bytes), 3.9, 0.05);
  const RankCost many = rank_cost(mistral(), RankLengths::equal(500, kLength), 20);
  EXPECT_NEAR(mebibytes(many.layer_kv_bytes), 314, 0.5);
  EXPECT_NEAR(mebibytes(many.decode_kv_bytes) / 1024, 9.80, 0.01);
}

}  // namespace
}  // namespace perpend
