// Training examples of rankings against what ranks.

#include "perpend/train/rank_sequence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/rank/block_ranker.h"
#include "perpend/train/block_rank_loss.h"
#include "tests/train/tiny_training.h"

namespace perpend {
namespace {

using testing::ElementsAre;

constexpr BlockRankConfig kConfig{.layer = 2, .query_pos_offset = 100, .chunk_len = 40};

RankPrompt random_prompt(std::uint64_t seed) {
  Random random(seed);
  RankPrompt prompt{.instruction = random_tokens(9, random), .documents = {}, .query = {}};
  for (const std::int64_t length : {5, 1, 12, 7}) {
    prompt.documents.push_back(random_tokens(length, random));
  }
  prompt.query = random_tokens(6, random);
  return prompt;
}

TEST(RankSequence, TrainsTheScoresThatRank) {
  const torch::NoGradGuard no_grad;
  TinyModel model;
  std::vector<TrainingSequence> sequences;
  std::vector<float> expected;
  BlockRanker ranker(model.llama, model.runtime.context(), kConfig, {.kv_dtype = DType::kF32});
  for (const std::uint64_t seed : {3, 4}) {
    const RankPrompt prompt = random_prompt(seed);
    sequences.push_back(
        rank_sequence(prompt, std::vector{7, 8}, std::vector<std::size_t>{1}, kConfig));
    for (const float score : ranker.score(prompt).scores) expected.push_back(score);
  }
  const PackedBatch batch = packed(sequences);
  TrainInput input =
      input_of(batch, parse_mask("causal & (same(doc) | k_in(doc, 0) | q_in(doc, 5))"));
  input.captured_layers = {kConfig.layer};
  const TrainOutput output = model.llama.train_forward(input);
  const torch::Tensor scores = block_rank_scores(output.captured.at(kConfig.layer), batch);
  ASSERT_EQ(scores.numel(), 8);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(scores.view(-1)[static_cast<std::int64_t>(i)].item<float>(), expected[i], 2e-6);
  }
}

TEST(RankSequence, SaysWhereTheAnswerIs) {
  const RankPrompt prompt = random_prompt(5);
  const TrainingSequence sequence =
      rank_sequence(prompt, std::vector{7, 8, 9}, std::vector<std::size_t>{2, 0}, kConfig);
  ASSERT_EQ(sequence.tokens.size(), 9 + 25 + 6 + 3);
  EXPECT_EQ(std::vector(sequence.tokens.end() - 3, sequence.tokens.end()), (std::vector{7, 8, 9}));
  EXPECT_EQ(std::vector(sequence.weights.end() - 4, sequence.weights.end()),
            (std::vector<float>{0, 1, 1, 1}));
  EXPECT_THAT(sequence.lists.at("signals"), ElementsAre(38, 39));
  EXPECT_THAT(sequence.lists.at("positives"), ElementsAre(3, 1));
  EXPECT_EQ(sequence.positions[9], 9);
  EXPECT_EQ(sequence.positions[14], 9);
  EXPECT_EQ(sequence.positions.back(), 108);
  EXPECT_EQ(sequence.labels.at("doc").back(), 5);
}

}  // namespace
}  // namespace perpend
