// Losses against sums written out in f64, and their gradients against finite differences.

#include <cmath>

#include <gtest/gtest.h>
#include <torch/autograd.h>

#include "perpend/core/error.h"
#include "perpend/nn/cross_entropy.h"
#include "perpend/train/block_rank_loss.h"
#include "tests/train/tiny_training.h"

namespace perpend {
namespace {

torch::Tensor random_tensor(torch::IntArrayRef shape, std::uint64_t seed) {
  torch::Tensor tensor = torch::empty(shape, torch::kFloat64);
  Random random(seed);
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    tensor.data_ptr<double>()[i] = 2 * random.next_double() - 1;
  }
  return tensor;
}

// d f / d x by central differences.
template <class F>
torch::Tensor finite_difference(const torch::Tensor& x, F f) {
  constexpr double kStep = 1e-6;
  const at::NoGradGuard no_grad;
  torch::Tensor gradient = torch::empty_like(x);
  auto* values = x.data_ptr<double>();
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    const double kept = values[i];
    values[i] = kept + kStep;
    const double high = f();
    values[i] = kept - kStep;
    const double low = f();
    values[i] = kept;
    gradient.data_ptr<double>()[i] = (high - low) / (2 * kStep);
  }
  return gradient;
}

TEST(CrossEntropy, ChunksAreTheWholeAndGradientsAreRight) {
  const torch::Tensor x = random_tensor({7, 5}, 1).requires_grad_(true);
  const torch::Tensor head = random_tensor({11, 5}, 2).requires_grad_(true);
  const torch::Tensor targets = torch::tensor({3, 0, 10, 3, 7, 1, 2}, torch::kInt64);
  const torch::Tensor weights = torch::tensor({1.0F, 0.5F, 2.0F, 0.0F, 1.0F, 3.0F, 0.25F});
  const auto loss = [&](std::int64_t chunk) {
    return cross_entropy_sum(x, head, targets, weights, chunk);
  };
  const torch::Tensor whole = loss(100);
  const torch::Tensor expected =
      -(torch::log_softmax(torch::matmul(x, head.t()), 1).gather(1, targets.unsqueeze(1)) *
        weights.unsqueeze(1))
           .sum();
  EXPECT_NEAR(whole.item<double>(), expected.item<double>(), 1e-12);
  for (const std::int64_t chunk : {1, 2, 3, 7}) {
    EXPECT_NEAR(loss(chunk).item<double>(), whole.item<double>(), 1e-12);
    const auto grads = torch::autograd::grad({2 * loss(chunk)}, {x, head});
    const auto value = [&] { return 2 * loss(100).item<double>(); };
    EXPECT_LT(error_between(grads[0], finite_difference(x.detach(), value)), 1e-8);
    EXPECT_LT(error_between(grads[1], finite_difference(head.detach(), value)), 1e-8);
  }
  EXPECT_THROW(loss(-1), InvalidArgument);
}

TEST(NextTokenLoss, IsTheWeightedMeanOverTargets) {
  auto sequences = random_sequences({6, 1, 4}, 3);
  sequences[2].weights = {0, 0, 0, 1};
  const PackedBatch batch = packed(sequences);
  const torch::Tensor hidden = random_tensor({11, 8}, 4);
  const torch::Tensor head = random_tensor({TinyModel::kVocabSize, 8}, 5);
  const NextTokenLoss loss;
  double sum = 0;
  double count = 0;
  const auto log_p = torch::log_softmax(torch::matmul(hidden, head.t()), 1);
  std::int64_t row = 0;
  for (const TrainingSequence& sequence : sequences) {
    for (std::size_t i = 0; i < sequence.tokens.size(); ++i, ++row) {
      if (i + 1 == sequence.tokens.size()) continue;
      sum -= sequence.weights[i + 1] * log_p[row][sequence.tokens[i + 1]].item<double>();
      count += sequence.weights[i + 1];
    }
  }
  EXPECT_DOUBLE_EQ(loss.count(batch), count);
  EXPECT_NEAR(loss.sum({batch, hidden, head, {}}).item<double>(), sum, 1e-9);
}

// Two prompts of unequal length and number of documents, two signals each.
struct BlockRankCase {
  BlockRankCase() {
    std::vector<TrainingSequence> prompts(2);
    prompts[0].labels["doc"] = {0, 0, 1, 1, 1, 2, 2, 3, 4, 4, 4};  // documents 1, 2, 3
    prompts[0].lists = {{"signals", {8, 10}}, {"positives", {2}}};
    prompts[1].labels["doc"] = {0, 1, 2, 2, 3, 3};  // documents 1, 2
    prompts[1].lists = {{"signals", {4, 5}}, {"positives", {1, 2}}};
    for (TrainingSequence& prompt : prompts) prompt.tokens.resize(prompt.labels["doc"].size());
    prompts[1].lists["positives"] = {1};
    batch = packed(prompts);
  }

  static constexpr std::int64_t kQueryHeads = 4;
  static constexpr std::int64_t kKeyHeads = 2;
  static constexpr std::int64_t kHeadDim = 3;
  static constexpr double kTau = 0.3;

  double loss() const {
    const BlockRankLoss object(0, kTau);
    return object.sum({batch, {}, {}, {{0, {q, k}}}}).item<double>();
  }

  PackedBatch batch;
  torch::Tensor q = random_tensor({17, kQueryHeads, kHeadDim}, 6);
  torch::Tensor k = random_tensor({17, kKeyHeads, kHeadDim}, 7);
};

// blockrank.md's sums, loop by loop: the loss and the gradients that are derived there by hand.
struct BlockRankReference {
  explicit BlockRankReference(const BlockRankCase& c)
      : dq(torch::zeros_like(c.q)), dk(torch::zeros_like(c.k)) {
    for (std::size_t prompt = 0; prompt < 2; ++prompt) add_prompt(c, prompt);
  }

  void add_prompt(const BlockRankCase& c, std::size_t prompt) {
    const std::int64_t begin = c.batch.q_indptr[prompt];
    const auto docs = c.batch.rows_of(c.batch.labels.at("doc"), prompt);
    const int num_docs = docs.back() - 1;
    const auto signals = c.batch.lists.at("signals").of(prompt);
    const auto positive = c.batch.lists.at("positives").of(prompt)[0];
    const double share = 1.0 / static_cast<double>(signals.size() * BlockRankCase::kQueryHeads);
    const double root = std::sqrt(static_cast<double>(BlockRankCase::kHeadDim));
    std::vector<double> score(static_cast<std::size_t>(num_docs) + 1);
    struct Pair {
      std::int64_t i, h, j;
      int doc;
      double alpha;
    };
    std::vector<std::vector<Pair>> rows;
    for (const auto signal : signals) {
      for (std::int64_t h = 0; h < BlockRankCase::kQueryHeads; ++h) {
        std::vector<Pair> row;
        double total = 0;
        for (std::size_t j = 0; j < docs.size(); ++j) {
          if (docs[j] < 1 || docs[j] > num_docs) continue;
          const auto key = begin + static_cast<std::int64_t>(j);
          const double z = (c.q[begin + signal][h] * c.k[key][h / 2]).sum().item<double>() / root;
          row.push_back({begin + signal, h, key, docs[j], std::exp(z)});
          total += std::exp(z);
        }
        for (Pair& pair : row) {
          pair.alpha /= total;
          score[static_cast<std::size_t>(pair.doc)] += pair.alpha * share;
        }
        rows.push_back(row);
      }
    }
    double sum = 0;
    for (int doc = 1; doc <= num_docs; ++doc) sum += std::exp(score[doc] / BlockRankCase::kTau);
    loss += std::log(sum) - score[static_cast<std::size_t>(positive)] / BlockRankCase::kTau;
    std::vector<double> g(score.size());
    for (int doc = 1; doc <= num_docs; ++doc) {
      const double p = std::exp(score[doc] / BlockRankCase::kTau) / sum;
      g[doc] = (p - (doc == positive ? 1 : 0)) / BlockRankCase::kTau;
    }
    for (const auto& row : rows) {
      double mean = 0;
      for (const Pair& pair : row) mean += pair.alpha * g[pair.doc];
      for (const Pair& pair : row) {
        const double dz = share * pair.alpha * (g[pair.doc] - mean);
        dq[pair.i][pair.h] += dz * c.k[pair.j][pair.h / 2] / root;
        dk[pair.j][pair.h / 2] += dz * c.q[pair.i][pair.h] / root;
      }
    }
  }

  double loss = 0;
  torch::Tensor dq;
  torch::Tensor dk;
};

TEST(BlockRankLoss, IsTheFormulaAndSoAreItsGradients) {
  BlockRankCase c;
  const BlockRankReference reference(c);
  EXPECT_NEAR(c.loss(), reference.loss, 1e-12);
  const auto value = [&] { return c.loss(); };
  EXPECT_LT(error_between(reference.dq, finite_difference(c.q, value)), 1e-8);
  EXPECT_LT(error_between(reference.dk, finite_difference(c.k, value)), 1e-8);
  const torch::Tensor q = c.q.clone().requires_grad_(true);
  const torch::Tensor k = c.k.clone().requires_grad_(true);
  const BlockRankLoss loss(0, BlockRankCase::kTau);
  const auto grads = torch::autograd::grad({loss.sum({c.batch, {}, {}, {{0, {q, k}}}})}, {q, k});
  EXPECT_LT(error_between(grads[0], reference.dq), 1e-12);
  EXPECT_LT(error_between(grads[1], reference.dk), 1e-12);
}

TEST(BlockRankLoss, ScoresOfAPromptSumToOne) {
  const BlockRankCase c;
  const torch::Tensor scores = block_rank_scores({c.q, c.k}, c.batch);
  EXPECT_EQ(scores.sizes(), (std::vector<std::int64_t>{2, 3}));
  EXPECT_TRUE(torch::allclose(scores.sum(1), torch::ones({2}, torch::kFloat64)));
  EXPECT_EQ(scores[1][2].item<double>(), 0);
}

TEST(BlockRankLoss, SaysWhatTheDataLacks) {
  BlockRankCase c;
  c.batch.lists.at("positives").values = {4, 1};
  EXPECT_THROW(c.loss(), InvalidArgument);
  c.batch.lists.erase("positives");
  EXPECT_THROW(c.loss(), InvalidArgument);
  c.batch.labels.clear();
  EXPECT_THROW(c.loss(), InvalidArgument);
}

}  // namespace
}  // namespace perpend
