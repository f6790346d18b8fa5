#include "perpend/decode/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/nn/runtime.h"

namespace perpend {
namespace {

using testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<double> log_softmax(const std::vector<float>& logits) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (double logit : logits) sum += std::exp(logit - max);
  std::vector<double> result;
  for (double logit : logits) result.push_back(logit - max - std::log(sum));
  return result;
}

// The distribution that the header promises, in f64 and one option after another.
std::vector<double> exact_distribution(const SamplerOptions& options, std::vector<float> logits,
                                       const std::vector<std::int32_t>& history) {
  std::vector<double> scaled(logits.begin(), logits.end());
  for (std::size_t token = 0; token < scaled.size(); ++token) {
    if (std::find(history.begin(), history.end(), token) == history.end()) continue;
    const double penalty = options.repetition_penalty;
    scaled[token] = scaled[token] > 0 ? scaled[token] / penalty : scaled[token] * penalty;
  }
  const double max = *std::max_element(scaled.begin(), scaled.end());
  std::vector<double> weights;
  for (double logit : scaled) weights.push_back(std::exp((logit - max) / options.temperature));
  std::vector<std::size_t> order(weights.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return weights[a] > weights[b]; });
  const auto keep = [&](std::size_t count) {
    for (std::size_t rank = count; rank < order.size(); ++rank) weights[order[rank]] = 0;
  };
  if (options.top_k > 0) keep(static_cast<std::size_t>(options.top_k));
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::size_t count = 0;
  for (double kept = 0; count < order.size() && (count == 0 || kept < options.top_p * total);) {
    kept += weights[order[count++]];
  }
  keep(count);
  for (double& weight : weights) weight = weight < options.min_p ? 0 : weight;
  const double left = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& weight : weights) weight /= left;
  return weights;
}

// The value that a chi-square variable exceeds once in ten thousand times (Wilson and Hilferty).
double chi_square_limit(int degrees) {
  const double variance = 2.0 / (9.0 * degrees);
  return degrees * std::pow(1 - variance + 3.719 * std::sqrt(variance), 3);
}

class SamplerTest : public testing::Test {
 protected:
  Sample sample(Sampler& sampler, std::vector<float> logits,
                const std::vector<std::int32_t>& history = {}, int num_top = 0) {
    return sampler.sample(logits, history, num_top, runtime_.context());
  }
  Sample sample(const SamplerOptions& options, const std::vector<float>& logits,
                const std::vector<std::int32_t>& history = {}, int num_top = 0) {
    Sampler sampler(options);
    return sample(sampler, logits, history, num_top);
  }
  std::vector<std::int32_t> draw(const SamplerOptions& options, const std::vector<float>& logits,
                                 int count, const std::vector<std::int32_t>& history = {}) {
    Sampler sampler(options);
    std::vector<std::int32_t> tokens;
    for (int i = 0; i < count; ++i) {
      tokens.push_back(sample(sampler, logits, history).chosen.token);
    }
    return tokens;
  }

  Runtime runtime_{1};
};

TEST_F(SamplerTest, AProposalIsTheSampleAndHowSureItIs) {
  const std::vector<float> logits = {0.5F, 2.0F, -kInfinity, 1.5F, -1.0F, 1.75F, 0.0F};
  const std::vector<SamplerOptions> all = {{.temperature = 0, .top_p = 0.3F},
                                           {.temperature = 1},
                                           {.temperature = 0.7F, .top_p = 0.8F},
                                           {.temperature = 2, .top_k = 3, .min_p = 0.1F}};
  for (SamplerOptions options : all) {
    for (std::uint64_t seed = 0; seed < 8; ++seed) {
      options.seed = seed;
      const TokenLogprob expected = sample(options, logits).chosen;
      SamplerOptions distribution = options;
      // At temperature 0 it is the model's own.
      if (options.temperature == 0) distribution = {.temperature = 1};
      std::vector<double> p = exact_distribution(distribution, logits, {});
      const double probability = p[static_cast<std::size_t>(expected.token)];
      std::sort(p.begin(), p.end(), std::greater<>());
      double negative_entropy = 0;
      for (const double value : p) negative_entropy += value > 0 ? value * std::log(value) : 0;
      for (const auto& [kind, value] : {std::pair{Confidence::kProbability, probability},
                                        std::pair{Confidence::kMargin, p[0] - p[1]},
                                        std::pair{Confidence::kEntropy, negative_entropy}}) {
        Sampler sampler(options);
        const Proposal proposal = sampler.propose(logits, kind, 2, runtime_.context());
        EXPECT_EQ(proposal.sample.chosen.token, expected.token);
        EXPECT_FLOAT_EQ(proposal.sample.chosen.logprob, expected.logprob);
        EXPECT_EQ(proposal.sample.top.size(), 2U);
        EXPECT_NEAR(proposal.confidence, value, 1e-5);
      }
    }
  }
}

struct Case {
  std::string name;
  SamplerOptions options;
  std::vector<std::int32_t> history;
};

std::ostream& operator<<(std::ostream& out, const Case& value) { return out << value.name; }

class Distribution : public SamplerTest, public testing::WithParamInterface<Case> {};

TEST_P(Distribution, AgreesWithTheExactOne) {
  constexpr int kDraws = 20000;
  const std::vector<float> logits = {1.5F, -0.3F, 0.0F,  2.1F, -4.0F, 0.7F,
                                     0.7F, 1.4F,  -1.0F, 2.0F, 0.2F,  -kInfinity};
  const Case& tested = GetParam();
  const auto expected = exact_distribution(tested.options, logits, tested.history);
  std::vector<int> counts(logits.size());
  for (std::int32_t token : draw(tested.options, logits, kDraws, tested.history)) {
    ++counts[static_cast<std::size_t>(token)];
  }
  double chi_square = 0;
  int degrees = -1;
  for (std::size_t token = 0; token < counts.size(); ++token) {
    if (expected[token] == 0) {
      EXPECT_EQ(counts[token], 0) << "token " << token;
      continue;
    }
    const double mean = kDraws * expected[token];
    chi_square += (counts[token] - mean) * (counts[token] - mean) / mean;
    ++degrees;
  }
  ASSERT_GE(degrees, 1);
  EXPECT_LT(chi_square, chi_square_limit(degrees)) << testing::PrintToString(counts);
}

INSTANTIATE_TEST_SUITE_P(
    Options, Distribution,
    testing::Values(
        Case{"plain", {.temperature = 1, .seed = 1}, {}},
        Case{"cold", {.temperature = 0.5, .seed = 2}, {}},
        Case{"hot", {.temperature = 3, .seed = 3}, {}},
        Case{"top_k", {.temperature = 1.3, .top_k = 4, .seed = 4}, {}},
        Case{"top_k_cuts_a_tie", {.temperature = 1, .top_k = 5, .seed = 5}, {}},
        Case{"top_p", {.temperature = 1, .top_p = 0.7, .seed = 6}, {}},
        Case{"min_p", {.temperature = 1.1, .min_p = 0.3, .seed = 7}, {}},
        Case{"penalty", {.temperature = 1, .repetition_penalty = 1.8, .seed = 8}, {3, 1, 3, 4, 9}},
        Case{"reward", {.temperature = 1, .repetition_penalty = 0.5, .seed = 9}, {1, 10}},
        Case{"top_k_then_p", {.temperature = 1, .top_k = 6, .top_p = 0.8, .seed = 10}, {}},
        Case{"top_p_then_min_p", {.temperature = 1, .top_p = 0.7, .min_p = 0.55, .seed = 11}, {}},
        Case{"all",
             {.temperature = 0.8,
              .top_k = 7,
              .top_p = 0.9,
              .min_p = 0.2,
              .repetition_penalty = 1.3,
              .seed = 12},
             {0, 7, 5}}),
    [](const auto& tested) { return tested.param.name; });

TEST_F(SamplerTest, TopPComesBeforeMinP) {
  // Three likely tokens of 0.2 and a tail of forty that share 0.4: min-p first would leave the
  // three with a third each, and top-p 0.55 would then keep two.
  std::vector<float> logits(43, std::log(0.01F));
  std::fill_n(logits.begin(), 3, std::log(0.2F));
  const auto tokens =
      draw({.temperature = 1, .top_p = 0.55F, .min_p = 0.5F, .seed = 5}, logits, 300);
  EXPECT_EQ(*std::max_element(tokens.begin(), tokens.end()), 2);
}

TEST_F(SamplerTest, TopPOfALargeVocabularyIsExact) {
  const std::vector<float> logits(1000, 0.25F);
  const auto tokens = draw({.temperature = 1, .top_p = 0.9F, .seed = 3}, logits, 20000);
  EXPECT_EQ(*std::max_element(tokens.begin(), tokens.end()), 899);
  EXPECT_EQ(*std::min_element(tokens.begin(), tokens.end()), 0);
}

TEST_F(SamplerTest, TheNarrowestOptionsLeaveTheLikeliestToken) {
  const std::vector<float> logits = {0.5F, 30.0F, -80.0F, 29.5F, 7.0F};
  for (const SamplerOptions& options :
       {SamplerOptions{.temperature = 1, .top_p = 0}, SamplerOptions{.temperature = 1, .min_p = 1},
        SamplerOptions{.temperature = 1, .top_k = 1}, SamplerOptions{.temperature = 1e-40F},
        SamplerOptions{.temperature = 1e-6F}}) {
    EXPECT_EQ(draw(options, logits, 50), std::vector<std::int32_t>(50, 1));
  }
}

TEST_F(SamplerTest, GreedyTakesTheFirstOfEqualTokens) {
  for (int vocab_size : {1, 7, 16, 33, 1000}) {
    std::vector<float> logits(static_cast<std::size_t>(vocab_size), -1.0F);
    const std::int32_t best = vocab_size / 2;
    for (std::int32_t token = best; token < vocab_size; ++token) logits[token] = 2.0F;
    EXPECT_EQ(sample(SamplerOptions{}, logits).chosen.token, best);
  }
}

TEST_F(SamplerTest, GreedyObeysThePenalty) {
  const std::vector<float> logits = {3.0F, 2.5F, -1.0F};
  EXPECT_EQ(sample({.repetition_penalty = 1.5F}, logits, {0}).chosen.token, 1);
  EXPECT_EQ(sample({.repetition_penalty = 1.5F}, logits, {0, 1}).chosen.token, 0);
  EXPECT_EQ(sample({.repetition_penalty = 0.1F}, {3.0F, 2.5F}, {1}).chosen.token, 1);
}

TEST_F(SamplerTest, ThePenaltyFollowsAGrowingHistory) {
  Sampler sampler({.repetition_penalty = 2.0F});
  const std::vector<float> logits = {3.0F, 2.9F, 2.8F, 2.7F};
  std::vector<std::int32_t> history = {1};
  for (std::int32_t expected : {0, 2, 3, 0, 0}) {
    const Sample next = sample(sampler, logits, history);
    EXPECT_EQ(next.chosen.token, expected);
    history.push_back(next.chosen.token);
  }
}

TEST_F(SamplerTest, LogprobsAreTheModelsOwn) {
  const std::vector<float> logits = {1.5F, -0.3F, 0.0F, 2.1F, -4.0F, 2.1F};
  const std::vector<double> exact = log_softmax(logits);
  for (const SamplerOptions& options :
       {SamplerOptions{}, SamplerOptions{.repetition_penalty = 1.9F},
        SamplerOptions{.temperature = 2.5F, .seed = 3},
        SamplerOptions{.temperature = 0.3F, .top_p = 0.8F, .repetition_penalty = 1.9F}}) {
    Sampler sampler(options);
    for (int i = 0; i < 20; ++i) {
      const Sample drawn = sample(sampler, logits, {3, 0}, 4);
      EXPECT_NEAR(drawn.chosen.logprob, exact[drawn.chosen.token], 1e-5);
      ASSERT_EQ(drawn.top.size(), 4U);
      for (std::size_t rank = 0; rank < 4; ++rank) {
        const std::int32_t token = std::array{3, 5, 0, 2}[rank];
        EXPECT_EQ(drawn.top[rank].token, token);
        EXPECT_NEAR(drawn.top[rank].logprob, exact[token], 1e-5);
      }
    }
  }
  EXPECT_EQ(sample(SamplerOptions{}, logits, {}, 100).top.size(), logits.size());
}

TEST_F(SamplerTest, ASeedDecidesTheDraws) {
  const std::vector<float> logits(50, 0.0F);
  const auto with_seed = [&](std::uint64_t seed) {
    return draw({.temperature = 1, .seed = seed}, logits, 40);
  };
  EXPECT_EQ(with_seed(17), with_seed(17));
  EXPECT_NE(with_seed(17), with_seed(18));
  EXPECT_NE(with_seed(17), with_seed(17 + (std::uint64_t{1} << 32)));
}

TEST_F(SamplerTest, LogitsThatAreNotFiniteAreRefused) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const std::vector<float>& logits :
       {std::vector<float>{0, kInfinity, 1}, {nan, 0, 1}, {0, 1, nan}, {nan}, {-kInfinity}}) {
    for (float temperature : {0.0F, 1.0F}) {
      EXPECT_THROW(sample({.temperature = temperature}, logits), InvalidArgument)
          << testing::PrintToString(logits);
    }
  }
}

std::string error_of(const SamplerOptions& options) {
  try {
    check_options(options);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "";
}

TEST(SamplerOptions, ValuesOutsideTheirRangesAreRefused) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (float value : {nan, kInfinity, -kInfinity, -0.1F, 100.5F}) {
    EXPECT_THAT(error_of({.temperature = value}), HasSubstr("temperature must be in [0, 100]"));
    EXPECT_THAT(error_of({.top_p = value}), HasSubstr("top-p must be in [0, 1]"));
    EXPECT_THAT(error_of({.min_p = value}), HasSubstr("min-p must be in [0, 1]"));
    EXPECT_THAT(error_of({.repetition_penalty = value}), HasSubstr("repetition-penalty"));
  }
  EXPECT_THAT(error_of({.repetition_penalty = 0}), HasSubstr("repetition-penalty"));
  EXPECT_THAT(error_of({.top_k = -1}), HasSubstr("top-k must not be negative (-1)"));
  EXPECT_THROW(Sampler({.temperature = nan}), InvalidArgument);
  EXPECT_EQ(error_of({}), "");
}

}  // namespace
}  // namespace perpend
