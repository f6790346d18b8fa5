// Scores of whole datasets against one sequence at a time in f64.

#include "perpend/train/evaluation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "tests/train/tiny_training.h"

namespace perpend {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const Mask kMask = parse_mask("causal & window(6)");

// Random sequences, some of whose targets have the weight 0; groups are numbered by turns.
std::vector<TrainingSequence> grouped_sequences() {
  auto sequences = random_sequences({9, 1, 14, 30, 5}, 31);
  int number = 0;
  for (TrainingSequence& sequence : sequences) {
    sequence.lists["group"];
    for (std::size_t i = 1; i < sequence.weights.size(); ++i) {
      if (sequence.weights[i] > 0) sequence.lists["group"].push_back(number++ % 3 - 1);
    }
  }
  return sequences;
}

void add_expected(const TinyModel& tiny, const TrainingSequence& sequence, Evaluation& expected) {
  const torch::NoGradGuard no_grad;
  const TrainOutput output = tiny.llama.train_forward(input_of(packed({sequence}), kMask));
  const torch::Tensor logits =
      output.hidden.to(torch::kFloat64).matmul(tiny.llama.head_weight().to(torch::kFloat64).t());
  const torch::Tensor log_probabilities = logits.log_softmax(1);
  std::size_t number = 0;
  for (std::size_t i = 1; i < sequence.tokens.size(); ++i) {
    const double weight = sequence.weights[i];
    if (weight == 0) continue;
    const torch::Tensor row = log_probabilities[static_cast<std::int64_t>(i) - 1];
    const std::int32_t target = sequence.tokens[i];
    for (TargetScore* score :
         {&expected.all, &expected.groups[sequence.lists.at("group")[number]]}) {
      ++score->count;
      score->num_exact += row.argmax().item<std::int64_t>() == target ? 1 : 0;
      score->weight += weight;
      score->loss_sum -= weight * row[target].item<double>();
    }
    ++number;
  }
}

void expect_same(const TargetScore& found, const TargetScore& expected) {
  EXPECT_EQ(found.count, expected.count);
  EXPECT_EQ(found.num_exact, expected.num_exact);
  EXPECT_NEAR(found.weight, expected.weight, 1e-9);
  EXPECT_NEAR(found.loss(), expected.loss(), 1e-5);
}

Evaluation evaluated(const TinyModel& tiny, const std::vector<TrainingSequence>& sequences,
                     std::int64_t batch_tokens) {
  return evaluate(tiny.llama, std::make_shared<MemoryDataset>(sequences),
                  std::vector<Mask>(3, kMask), {.batch_tokens = batch_tokens}, [](std::int64_t) {});
}

TEST(Evaluation, ScoresAreThoseOfEachSequenceAlone) {
  const TinyModel tiny;
  auto sequences = grouped_sequences();
  // Of some targets the likeliest token, so that there is something to count.
  const auto likeliest = tiny.llama.train_forward(input_of(packed({sequences[3]}), kMask))
                             .hidden.matmul(tiny.llama.head_weight().t())
                             .argmax(1);
  for (const std::size_t i : {29U, 20U, 11U}) {
    sequences[3].tokens[i] = likeliest[static_cast<std::int64_t>(i) - 1].item<std::int32_t>();
  }
  Evaluation expected;
  for (const TrainingSequence& sequence : sequences) add_expected(tiny, sequence, expected);
  ASSERT_GT(expected.all.num_exact, 0);
  ASSERT_LT(expected.all.num_exact, expected.all.count);
  for (const std::int64_t batch_tokens : {30, 31, 1000}) {
    const Evaluation found = evaluated(tiny, sequences, batch_tokens);
    EXPECT_EQ(found.num_sequences, 5);
    EXPECT_EQ(found.num_tokens, 9 + 1 + 14 + 30 + 5);
    expect_same(found.all, expected.all);
    ASSERT_EQ(found.groups.size(), 3U);
    for (const auto& [group, score] : expected.groups) expect_same(found.groups.at(group), score);
  }
}

TEST(Evaluation, VisitsEveryExampleOnceInOrder) {
  const TinyModel tiny;
  const auto sequences = random_sequences({9, 3, 14, 2, 5}, 32);
  std::vector<std::int64_t> rows;
  std::vector<std::int32_t> tokens;
  for_each_evaluated(
      tiny.llama, std::make_shared<MemoryDataset>(sequences), std::vector<Mask>(3, kMask),
      {.batch_tokens = 16, .captured_layers = {1}}, [&](const LossInput& input) {
        rows.push_back(input.hidden.size(0));
        EXPECT_FALSE(input.hidden.requires_grad());
        EXPECT_EQ(input.captured.at(1).k.size(0), rows.back());
        tokens.insert(tokens.end(), input.batch.tokens.begin(), input.batch.tokens.end());
      });
  EXPECT_THAT(rows, ElementsAre(12, 16, 5));
  EXPECT_EQ(tokens, packed(sequences).tokens);
}

TEST(Evaluation, GroupsThatDoNotFitAreAnError) {
  const TinyModel tiny;
  auto sequences = grouped_sequences();
  sequences[2].lists["group"].push_back(1);
  try {
    evaluated(tiny, sequences, 100);
    FAIL();
  } catch (const InvalidArgument& error) {
    EXPECT_THAT(error.what(), HasSubstr("list.group"));
  }
}

TEST(Evaluation, NothingToPredictIsNoError) {
  const TinyModel tiny;
  auto sequences = random_sequences({4}, 33);
  sequences[0].weights = {0, 0, 0, 0};
  const Evaluation found = evaluated(tiny, sequences, 100);
  EXPECT_EQ(found.num_tokens, 4);
  EXPECT_EQ(found.all.count, 0);
  EXPECT_EQ(found.all.loss(), 0);
}

}  // namespace
}  // namespace perpend
