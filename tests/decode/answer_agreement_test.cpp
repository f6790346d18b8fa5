#include "perpend/decode/answer_agreement.h"

#include <gtest/gtest.h>

#include "tests/decode/tiny_diffusion.h"

namespace perpend {
namespace {

std::vector<Sample> samples_of(const std::vector<std::int32_t>& ids) {
  std::vector<Sample> samples(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) samples[i].chosen.token = ids[i];
  return samples;
}

// Each step by the positions that it fills, token = position unless said otherwise.
std::vector<RecordedStep> steps_of(const std::vector<std::vector<std::int64_t>>& steps) {
  std::vector<RecordedStep> result;
  for (const auto& positions : steps) {
    std::vector<FilledToken> filled;
    for (const std::int64_t position : positions) {
      filled.push_back({position, {static_cast<std::int32_t>(position), 0}, 0.5F});
    }
    CanvasStep step;
    step.filled = filled;
    result.emplace_back(step);
  }
  return result;
}

TEST(AnswerAgreement, CountsTokensInTheirPlaces) {
  const auto same = agreement_of(samples_of({1, 2, 3}), samples_of({1, 2, 3}));
  EXPECT_EQ(same.share(), 1);
  EXPECT_FALSE(same.first_token);
  const auto changed = agreement_of(samples_of({1, 9, 3, 4}), samples_of({1, 2, 3, 5}));
  EXPECT_EQ(changed.num_equal, 2);
  EXPECT_EQ(changed.first_token, 1);
  // A shorter answer differs where it ends.
  const auto shorter = agreement_of(samples_of({1, 2}), samples_of({1, 2, 3}));
  EXPECT_EQ(shorter.first_token, 2);
  EXPECT_EQ(shorter.num_tokens, 3);
  EXPECT_EQ(shorter.num_equal, 2);
  EXPECT_EQ(agreement_of(samples_of({}), samples_of({})).share(), 1);
}

TEST(AnswerAgreement, FindsTheFirstStepThatFillsAnythingElse) {
  const auto first_step = [](const auto& a, const auto& b) {
    return agreement_of(samples_of({1}), a, samples_of({1}), b).first_step;
  };
  // In any order, and whatever passes fill nothing.
  EXPECT_FALSE(first_step(steps_of({{}, {4, 3}, {5}}), steps_of({{3, 4}, {}, {5}})));
  EXPECT_EQ(first_step(steps_of({{3}, {4}, {5}}), steps_of({{3}, {4, 5}})), 1);
  EXPECT_EQ(first_step(steps_of({{3}, {4}}), steps_of({{3}})), 1);
  auto other = steps_of({{3}, {4}});
  other[1].filled[0].chosen.token = 77;
  EXPECT_EQ(first_step(steps_of({{3}, {4}}), other), 1);
}

TEST(ExactOptions, KeepAllButTheCache) {
  const DiffusionConfig block{DiffusionAttention::kBlock, 8, true, kMask, ""};
  const DiffusionConfig full{DiffusionAttention::kFull, 8, true, kMask, ""};
  const auto exact = [](const DiffusionConfig& model, const DiffusionOptions& options) {
    return decide(model, exact_options(model, options));
  };
  const auto sub_block = exact(block, {.sub_block_size = 2, .cache = CanvasCache::kSubBlock});
  EXPECT_EQ(sub_block.cache, CanvasCache::kBlock);
  EXPECT_EQ(sub_block.sub_block_size, 2);
  EXPECT_EQ(exact(full, {.cache = CanvasCache::kDual}).cache, CanvasCache::kNone);
  // The cache elastic has a window unless told otherwise.
  const auto elastic = exact(full, {.cache = CanvasCache::kElastic, .rule = threshold(0.3F)});
  EXPECT_EQ(elastic.cache, CanvasCache::kNone);
  EXPECT_EQ(elastic.window, decide(full, {.cache = CanvasCache::kElastic}).window);
  EXPECT_GT(elastic.window, 0);
  EXPECT_EQ(elastic.rule.threshold, 0.3F);
}

}  // namespace
}  // namespace perpend
