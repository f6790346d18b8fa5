// How well rankings are against sorted lists, and two ways to rank the same prompt against each
// other.

#include "perpend/train/ranking_metrics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/train/block_rank_loss.h"
#include "perpend/train/evaluation.h"
#include "perpend/train/one_pass_ranking.h"
#include "tests/train/tiny_training.h"

namespace perpend {
namespace {

TEST(RankingQuality, AgreesWithAStableSort) {
  Random random(1);
  RankingQuality quality;
  double first = 0;
  double reciprocal = 0;
  constexpr int kLists = 200;
  for (int list = 0; list < kLists; ++list) {
    const auto size = static_cast<std::size_t>(1 + random.next_below(30));
    std::vector<float> scores(size);
    // Few different values, so that there are ties.
    for (float& score : scores) score = static_cast<float>(random.next_below(12)) - 6;
    std::vector<std::int32_t> answers(1 + random.next_below(2));
    for (auto& answer : answers) answer = 1 + static_cast<std::int32_t>(random.next_below(size));
    quality.add(scores, answers);
    std::vector<std::int32_t> order(size);
    std::iota(order.begin(), order.end(), 1);
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) {
      return scores[static_cast<std::size_t>(a) - 1] > scores[static_cast<std::size_t>(b) - 1];
    });
    const auto found =
        std::find_first_of(order.begin(), order.end(), answers.begin(), answers.end());
    const auto rank = static_cast<double>(found - order.begin() + 1);
    first += rank == 1 ? 1 : 0;
    reciprocal += rank <= 10 ? 1 / rank : 0;
  }
  EXPECT_EQ(quality.num_lists(), kLists);
  EXPECT_DOUBLE_EQ(quality.p_at_1(), first / kLists);
  EXPECT_NEAR(quality.mrr_at_10(), reciprocal / kLists, 1e-12);
  EXPECT_GT(first, kLists / 50);
  EXPECT_THROW(quality.add(std::vector<float>(3), std::vector<std::int32_t>{4}), InvalidArgument);
  EXPECT_THROW(quality.add(std::vector<float>(3), {}), InvalidArgument);
  EXPECT_THROW(quality.add(std::vector<float>{0, NAN}, std::vector<std::int32_t>{1}),
               InvalidArgument);
}

// Ragged prompts with the positions of BlockRank and an answer of two tokens behind the signals.
std::vector<TrainingSequence> prompts_to_rank() {
  Random random(5);
  std::vector<TrainingSequence> prompts;
  for (const std::int32_t num_docs : {3, 1, 6, 4}) {
    TrainingSequence& prompt = prompts.emplace_back();
    const auto add_block = [&](std::int32_t block, std::int32_t first, std::uint64_t length) {
      for (std::uint64_t t = 0; t < length; ++t) {
        prompt.labels["doc"].push_back(block);
        prompt.positions.push_back(first + static_cast<std::int32_t>(t));
      }
    };
    add_block(0, 0, 4);
    for (std::int32_t doc = 1; doc <= num_docs; ++doc) add_block(doc, 4, 2 + random.next_below(5));
    add_block(num_docs + 1, 128, 7);
    prompt.tokens = random_tokens(std::ssize(prompt.positions), random);
    const auto length = static_cast<std::int32_t>(prompt.tokens.size());
    std::vector<std::int32_t> ids(static_cast<std::size_t>(num_docs));
    std::iota(ids.begin(), ids.end(), 10);
    prompt.lists = {{"signals", {length - 4, length - 3}},
                    {"positives", {1 + static_cast<std::int32_t>(random.next_below(ids.size()))}},
                    {"ids", ids}};
  }
  return prompts;
}

std::vector<Mask> block_masks(int num_layers) {
  const Mask mask = parse_mask("causal & (same(doc) | k_in(doc, 0) | q_in(last, 1))");
  return std::vector<Mask>(static_cast<std::size_t>(num_layers), mask);
}

std::vector<TrainingSequence> with_last_label(std::vector<TrainingSequence> prompts) {
  for (TrainingSequence& prompt : prompts) {
    const auto& docs = prompt.labels.at("doc");
    std::vector<std::int32_t> is_last;
    for (const std::int32_t doc : docs) is_last.push_back(doc == docs.back() ? 1 : 0);
    prompt.labels["last"] = is_last;
  }
  return prompts;
}

TEST(RankingMetrics, AttentionAndAnswersRankAsTheirScoresSay) {
  const TinyModel model;
  const auto prompts = with_last_label(prompts_to_rank());
  RankingMetrics metrics(1);
  RankingQuality attention;
  RankingQuality answers;
  double greedy = 0;
  for_each_evaluated(
      model.llama, std::make_shared<MemoryDataset>(prompts),
      block_masks(model.llama.config().num_layers), {.batch_tokens = 64, .captured_layers = {1}},
      [&](const LossInput& input) {
        metrics.add(input);
        const torch::Tensor scores = block_rank_scores(input.captured.at(1), input.batch);
        for (std::size_t s = 0; s < input.batch.num_sequences(); ++s) {
          const auto ids = input.batch.lists.at("ids").of(s);
          const auto positives = input.batch.lists.at("positives").of(s);
          const std::int64_t row =
              input.batch.q_indptr[s] + input.batch.lists.at("signals").of(s)[1];
          std::vector<float> by_attention;
          std::vector<float> by_answer;
          for (std::size_t doc = 0; doc < ids.size(); ++doc) {
            by_attention.push_back(
                scores[static_cast<std::int64_t>(s)][static_cast<std::int64_t>(doc)].item<float>());
            by_answer.push_back((input.hidden[row] * input.head[ids[doc]]).sum().item<float>());
          }
          attention.add(by_attention, positives);
          answers.add(by_answer, positives);
          const auto likeliest =
              torch::matmul(input.head, input.hidden[row]).argmax().item<std::int64_t>();
          greedy += likeliest == ids[static_cast<std::size_t>(positives[0]) - 1] ? 1 : 0;
        }
      });
  EXPECT_EQ(metrics.attention().num_lists(), 4);
  EXPECT_DOUBLE_EQ(metrics.attention().p_at_1(), attention.p_at_1());
  EXPECT_DOUBLE_EQ(metrics.attention().mrr_at_10(), attention.mrr_at_10());
  EXPECT_DOUBLE_EQ(metrics.answer().mrr_at_10(), answers.mrr_at_10());
  EXPECT_DOUBLE_EQ(metrics.greedy(), greedy / 4);
}

TEST(OnePassRanking, ScoresAreThoseOfTheTrainingPass) {
  TinyModel model;
  const auto prompts = with_last_label(prompts_to_rank());
  OnePassRanking one_pass(model.llama, model.runtime.context(), 1);
  std::vector<std::vector<float>> found;
  for (const TrainingSequence& prompt : prompts) found.push_back(one_pass.add(prompt));
  std::size_t prompt = 0;
  RankingMetrics metrics(1);
  for_each_evaluated(
      model.llama, std::make_shared<MemoryDataset>(prompts),
      block_masks(model.llama.config().num_layers), {.batch_tokens = 64, .captured_layers = {1}},
      [&](const LossInput& input) {
        metrics.add(input);
        const torch::Tensor scores = block_rank_scores(input.captured.at(1), input.batch);
        for (std::int64_t s = 0; s < scores.size(0); ++s, ++prompt) {
          for (std::size_t doc = 0; doc < found[prompt].size(); ++doc) {
            EXPECT_NEAR(found[prompt][doc], scores[s][static_cast<std::int64_t>(doc)].item<float>(),
                        2e-5);
          }
        }
      });
  EXPECT_EQ(prompt, prompts.size());
  EXPECT_EQ(one_pass.milliseconds().size(), prompts.size());
  EXPECT_DOUBLE_EQ(one_pass.quality().mrr_at_10(), metrics.attention().mrr_at_10());

  TrainingSequence shifted = prompts[0];
  shifted.positions[5] += 1;
  EXPECT_THROW(one_pass.add(shifted), InvalidArgument);
  TrainingSequence unlabelled = prompts[0];
  unlabelled.labels.erase("doc");
  EXPECT_THROW(one_pass.add(unlabelled), InvalidArgument);
}

}  // namespace
}  // namespace perpend
