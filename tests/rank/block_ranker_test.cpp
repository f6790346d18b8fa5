#include "perpend/rank/block_ranker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "tests/rank/ranking_model.h"

namespace perpend {
namespace {

using testing::HasSubstr;

float sum_of(const std::vector<float>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0F);
}

void expect_near(const std::vector<float>& found, const std::vector<float>& expected,
                 float tolerance) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_NEAR(found[i], expected[i], tolerance * expected[i]) << i;
  }
}

bool all_equal(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [&](float value) { return value == values[0]; });
}

// Rows [begin, end) as a list.
std::vector<std::int32_t> list_of(Range rows) {
  std::vector<std::int32_t> list(static_cast<std::size_t>(rows.size()));
  std::iota(list.begin(), list.end(), static_cast<std::int32_t>(rows.begin));
  return list;
}

// One pass over a layout with a cache of its own.
class LaidOut {
 public:
  LaidOut(RankingModel& model, const RankPrompt& prompt, int store_layers = 1,
          RankPacking packing = RankPacking::kPacked)
      : model_(model),
        layout_(lay_out(prompt, RankingModel::kQueryPosition, packing, 64)),
        store_({.num_layers = store_layers,
                .num_kv_heads = 1,
                .head_dim = 16,
                .dtype = DType::kF32,
                .max_tokens = layout_.num_places + 64}),
        sequence_(store_) {
    EXPECT_TRUE(sequence_.append(layout_.num_places));
    for (const Range& places : layout_.passes) {
      sequences_.push_back({&sequence_, places.begin, places.size()});
    }
  }

  const RankLayout& layout() const { return layout_; }
  KvSequence& sequence() { return sequence_; }

  ForwardInput input(std::size_t num_layers, std::span<const std::int32_t> logit_rows = {}) {
    masks_.assign(num_layers, layout_.mask);
    return {.tokens = layout_.tokens,
            .sequences = sequences_,
            .layer_masks = masks_,
            .logit_rows = logit_rows,
            .positions = layout_.positions};
  }

  // Keys of one layer of the tokens of a block.
  std::vector<float> keys(int layer, std::size_t block) {
    const std::vector<std::int32_t> rows = list_of(layout_.blocks[block].rows);
    const torch::Tensor k =
        model_.network()
            .heads(input(static_cast<std::size_t>(layer)),
                   {.layer = layer, .q_rows = {}, .k_rows = rows}, model_.context())
            .k.contiguous();
    return {k.data_ptr<float>(), k.data_ptr<float>() + k.numel()};
  }

 private:
  RankingModel& model_;
  RankLayout layout_;
  KvStore store_;
  KvSequence sequence_;
  std::vector<KvRows> sequences_;
  std::vector<Mask> masks_;
};

class BlockRankerTest : public testing::Test {
 protected:
  RankingModel model_;
};

TEST_F(BlockRankerTest, ScoresSumToOneAndTokensToTheirDocuments) {
  const RankPrompt prompt = RankingModel::prompt(1);
  const BlockScores scores = model_.ranker().score(prompt);
  EXPECT_NEAR(sum_of(scores.scores), 1, 1e-5);
  EXPECT_FALSE(all_equal(scores.scores));
  for (std::size_t i = 0; i < prompt.documents.size(); ++i) {
    EXPECT_EQ(scores.weights[i].size(), prompt.documents[i].size());
    EXPECT_NEAR(sum_of(scores.weights[i]), scores.scores[i], 1e-6) << i;
  }
}

TEST_F(BlockRankerTest, PermutingDocumentsPermutesScoresBitForBit) {
  const RankPrompt prompt = RankingModel::prompt(2);
  const BlockScores expected = model_.ranker().score(prompt);
  RankPrompt other = prompt;
  const std::vector<std::size_t> order = {3, 0, 5, 1, 4, 2};
  for (std::size_t i = 0; i < order.size(); ++i) other.documents[i] = prompt.documents[order[i]];
  const BlockScores found = model_.ranker().score(other);
  for (std::size_t i = 0; i < order.size(); ++i) {
    EXPECT_EQ(found.scores[i], expected.scores[order[i]]) << i;
    EXPECT_EQ(found.weights[i], expected.weights[order[i]]) << i;
  }
}

TEST_F(BlockRankerTest, OneDocumentChangesNoBitOfTheOthers) {
  const RankPrompt prompt = RankingModel::prompt(3);
  RankPrompt other = prompt;
  Random random(33);
  other.documents[1] = RankingModel::tokens(90, random);  // was a single token
  LaidOut before(model_, prompt);
  LaidOut after(model_, other);
  for (int layer = 0; layer < RankingModel::kNumLayers; ++layer) {
    for (const std::size_t block : {0, 1, 3, 4, 5, 6}) {
      EXPECT_EQ(before.keys(layer, block), after.keys(layer, block)) << layer << " " << block;
    }
    const std::size_t query = prompt.documents.size() + 1;
    EXPECT_EQ(before.keys(layer, query) == after.keys(layer, query), layer == 0);
  }
}

TEST_F(BlockRankerTest, PaddedEqualsPacked) {
  const RankPrompt prompt = RankingModel::prompt(4);
  const BlockScores packed = model_.ranker().score(prompt);
  const BlockScores padded =
      model_.ranker({.kv_dtype = DType::kF32, .packing = RankPacking::kPadded}).score(prompt);
  expect_near(padded.scores, packed.scores, 1e-4F);
  const RankLayout layout = lay_out(prompt, 300, RankPacking::kPadded, 64);
  EXPECT_EQ(layout.num_places, 8 * 144);  // 130 tokens, up to a multiple of 16
  EXPECT_EQ(layout.blocks[2].rows, (Range{3 * 144 - 1, 3 * 144}));
}

TEST_F(BlockRankerTest, OneDocumentIsCausalAttentionWithAGapInPositions) {
  const RankPrompt prompt = RankingModel::prompt(5, {40});
  LaidOut blocks(model_, prompt);
  // The same tokens and positions as one causal sequence without gaps in the cache.
  KvStore store({.num_layers = 1,
                 .num_kv_heads = 1,
                 .head_dim = 16,
                 .dtype = DType::kF32,
                 .max_tokens = 128});
  KvSequence sequence(store);
  const RankLayout& layout = blocks.layout();
  const auto count = static_cast<std::int64_t>(layout.tokens.size());
  ASSERT_TRUE(sequence.append(count));
  const KvRows rows{&sequence, 0, count};
  for (const int layer : {1, 3}) {
    const std::vector<Mask> masks(static_cast<std::size_t>(layer), Mask::causal());
    for (std::size_t block = 0; block < 3; ++block) {
      const std::vector<std::int32_t> wanted = list_of(layout.blocks[block].rows);
      const torch::Tensor k =
          model_.network()
              .heads({.tokens = layout.tokens,
                      .sequences = {&rows, 1},
                      .layer_masks = masks,
                      .logit_rows = {},
                      .positions = layout.positions},
                     {.layer = layer, .q_rows = {}, .k_rows = wanted}, model_.context())
              .k.contiguous();
      const std::vector<float> expected(k.data_ptr<float>(), k.data_ptr<float>() + k.numel());
      const std::vector<float> found = blocks.keys(layer, block);
      ASSERT_EQ(found.size(), expected.size());
      for (std::size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-4);
    }
  }
}

TEST_F(BlockRankerTest, OneLayerOfKeysIsEnough) {
  const RankPrompt prompt = RankingModel::prompt(6);
  LaidOut one(model_, prompt, 1);
  LaidOut all(model_, prompt, RankingModel::kNumLayers);
  for (const std::size_t block : {1, 7}) EXPECT_EQ(one.keys(3, block), all.keys(3, block));
}

TEST_F(BlockRankerTest, KnownDocumentsChangeNoBit) {
  const RankPrompt first = RankingModel::prompt(7);
  RankPrompt second = first;
  Random random(77);
  second.query = RankingModel::tokens(29, random);
  second.documents.erase(second.documents.begin() + 2);
  second.documents.push_back(RankingModel::tokens(50, random));
  const BlockScores expected = model_.ranker().score(second);
  BlockRanker reusing = model_.ranker({.kv_dtype = DType::kF32, .reuse_tokens = 1024});
  EXPECT_EQ(reusing.score(first).scores, model_.ranker().score(first).scores);
  EXPECT_EQ(reusing.num_reused(), 0);
  for (const std::size_t num_known : {6, 7}) {  // the instruction and five documents, then six
    const BlockScores found = reusing.score(second);
    EXPECT_EQ(reusing.num_reused(), num_known);
    EXPECT_EQ(found.scores, expected.scores);
    EXPECT_EQ(found.weights, expected.weights);
  }
  // Another instruction: nothing of the old one may stay.
  second.instruction.back() ^= 1;
  EXPECT_EQ(reusing.score(second).scores, model_.ranker().score(second).scores);
  EXPECT_EQ(reusing.num_reused(), 0);
}

TEST_F(BlockRankerTest, ASmallMemoryForgetsTheOldestDocuments) {
  const RankPrompt prompt = RankingModel::prompt(8, {60, 61, 62, 63});
  const BlockScores expected = model_.ranker().score(prompt);
  BlockRanker reusing = model_.ranker({.kv_dtype = DType::kF32, .reuse_tokens = 3 * 64});
  for (int i = 0; i < 3; ++i) EXPECT_EQ(reusing.score(prompt).scores, expected.scores);
  EXPECT_GT(reusing.num_reused(), 0);
  EXPECT_LE(reusing.num_reused(), 4);
}

// The logits of the query block from one pass are those of its tokens one by one.
TEST_F(BlockRankerTest, DecodingTheQueryBlockEqualsPrefill) {
  const RankPrompt prompt = RankingModel::prompt(9);
  LaidOut laid(model_, prompt, RankingModel::kNumLayers);
  const RankLayout::Block query = laid.layout().blocks.back();
  const std::vector<std::int32_t> rows = list_of(query.rows);
  const torch::Tensor expected =
      model_.network()
          .forward(laid.input(RankingModel::kNumLayers, rows), model_.context())
          .clone();
  const std::vector<Mask> masks(RankingModel::kNumLayers, laid.layout().mask);
  for (std::int64_t t = 0; t < query.size; ++t) {
    laid.sequence().truncate(query.place + t);
    ASSERT_TRUE(laid.sequence().append(1));
    const KvRows row{&laid.sequence(), query.place + t, 1};
    const auto position = static_cast<std::int32_t>(RankingModel::kQueryPosition + t);
    const std::int32_t token = prompt.query[static_cast<std::size_t>(t)];
    const std::int32_t wanted = 0;
    const torch::Tensor logits = model_.network().forward({.tokens = {&token, 1},
                                                           .sequences = {&row, 1},
                                                           .layer_masks = masks,
                                                           .logit_rows = {&wanted, 1},
                                                           .positions = {&position, 1}},
                                                          model_.context());
    EXPECT_LT((logits[0] - expected[t]).norm().item<float>(),
              1e-5F * expected[t].norm().item<float>())
        << t;
  }
}

TEST_F(BlockRankerTest, PromptsThatDoNotFitAreRefused) {
  const auto error_of = [&](const RankPrompt& prompt, BlockRankConfig config) -> std::string {
    try {
      BlockRanker(model_.network(), model_.context(), config, {}).score(prompt);
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "no error";
  };
  const BlockRankConfig config = RankingModel::config();
  const RankPrompt good = RankingModel::prompt(10);
  EXPECT_EQ(error_of(good, config), "no error");
  EXPECT_THAT(error_of(RankingModel::prompt(10, {}), config), HasSubstr("documents is empty"));
  EXPECT_THAT(error_of(RankingModel::prompt(10, {3, 0}), config),
              HasSubstr("document 1 has no token"));
  EXPECT_THAT(error_of(RankingModel::prompt(10, {3, 280}), config),
              HasSubstr("instruction and document 1 have 301 tokens, the query begins at position "
                        "300"));
  BlockRankConfig other = config;
  other.query_pos_offset = 500;
  EXPECT_THAT(error_of(good, other), HasSubstr("13 tokens from position 500 on, the context ends"));
  other.query_pos_offset = 512;
  EXPECT_THAT(error_of(good, other), HasSubstr("query_pos_offset must be in [1, 512) (512)"));
  other = config;
  other.layer = RankingModel::kNumLayers;
  EXPECT_THAT(error_of(good, other), HasSubstr("layer must be in [0, 4) (4)"));
  other = config;
  other.signal_tokens = 14;
  EXPECT_THAT(error_of(good, other), HasSubstr("13 tokens, 14 carry the score"));
}

TEST_F(BlockRankerTest, ProgressCountsLayers) {
  std::vector<std::int64_t> done;
  model_.ranker().score(RankingModel::prompt(11, {5, 6}),
                        [&](std::int64_t layers, std::int64_t of) {
                          EXPECT_EQ(of, 3);
                          done.push_back(layers);
                        });
  EXPECT_EQ(done, (std::vector<std::int64_t>{1, 2, 3}));
}

}  // namespace
}  // namespace perpend
