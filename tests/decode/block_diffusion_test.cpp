#include "perpend/decode/block_diffusion.h"

#include <map>
#include <set>

#include <gmock/gmock.h>

#include "perpend/core/error.h"
#include "tests/decode/tiny_diffusion.h"

namespace perpend {
namespace {

using BlockDiffusionTest = TinyDiffusion;
using Attention = DiffusionAttention;
using Kind = UnmaskRule::Kind;

TEST_F(BlockDiffusionTest, ABlockOfOneIsAutoregression) {
  const LoadedModel plain = load_plain();
  for (const Attention attention : {Attention::kBlock, Attention::kContextCausal}) {
    const LoadedModel model = load(attention, 8);
    for (const std::size_t length : {1U, 8U, 21U}) {
      for (const float temperature : {0.0F, 1.0F}) {
        const SamplerOptions sampler{.temperature = temperature, .top_p = 0.9F, .seed = 3};
        // The mask token may come out of a network that knows none.
        TextGenerator generator(plain, runtime_.context(), DType::kF32);
        GenerateResult expected =
            generator.generate(prompt_of(length), {.max_tokens = 30, .sampler = sampler});
        const auto expected_ids = ids_of(expected);
        const auto until =
            std::find(expected_ids.begin(), expected_ids.end(), kMask) - expected_ids.begin();
        const GenerateResult result = run(model, prompt_of(length), {.block_size = 1}, 30, sampler);
        auto ids = ids_of(result);
        ASSERT_EQ(ids.size(), 30U);
        EXPECT_EQ(result.num_forwards, 30);
        for (const RecordedStep& step : steps_) EXPECT_FALSE(step.denoises);
        if (temperature > 0) continue;  // the banned token moves every draw
        EXPECT_TRUE(std::equal(ids.begin(), ids.begin() + until, expected_ids.begin()))
            << name_of(attention) << ", prompt of " << length;
      }
    }
  }
}

TEST_F(BlockDiffusionTest, FinishedBlocksKeepTheirKeysExactly) {
  for (const Attention attention : {Attention::kBlock, Attention::kContextCausal}) {
    for (const bool shifted : {true, false}) {
      const LoadedModel model = load(attention, 8, shifted);
      for (const std::size_t length : {1U, 7U, 8U, 9U, 16U, 27U}) {
        for (const float tau : {-1.0F, 0.02F, 1.0F}) {
          for (const std::int64_t sub_block : {2, 8}) {
            DiffusionOptions options{.sub_block_size = sub_block, .rule = threshold(tau)};
            options.cache = CanvasCache::kBlock;
            const auto cached = ids_of(run(model, prompt_of(length), options, 21));
            options.cache = CanvasCache::kNone;
            EXPECT_EQ(cached, ids_of(run(model, prompt_of(length), options, 21)))
                << name_of(attention) << ", prompt of " << length << ", tau " << tau;
            EXPECT_EQ(cached.size(), 21U);
            EXPECT_THAT(cached, testing::Not(testing::Contains(kMask)));
          }
        }
      }
    }
  }
}

TEST_F(BlockDiffusionTest, ASubBlockCacheIsExactWhereASubBlockIsABlock) {
  for (const Attention attention : {Attention::kBlock, Attention::kContextCausal}) {
    const LoadedModel model = load(attention, 8);
    DiffusionOptions options{
        .sub_block_size = 8, .cache = CanvasCache::kBlock, .rule = threshold(0.02F)};
    const auto exact = ids_of(run(model, prompt_of(19), options));
    options.cache = CanvasCache::kSubBlock;
    EXPECT_EQ(ids_of(run(model, prompt_of(19), options)), exact);
    // The first token of a sub-block of one is always masked, so that every step is over the block.
    options.sub_block_size = 1;
    const auto refreshed = ids_of(run(model, prompt_of(19), options));
    for (const RecordedStep& step : steps_) {
      EXPECT_TRUE(!step.denoises || step.rows == step.block);
    }
    options.cache = CanvasCache::kNone;
    EXPECT_EQ(ids_of(run(model, prompt_of(19), options)), refreshed);
    options.cache = CanvasCache::kSubBlock;
    // With others it computes fewer rows, and the first step of each sees all of the block.
    options.sub_block_size = 4;
    options.rule = threshold(1.0F);
    run(model, prompt_of(19), options);
    std::int64_t num_small = 0;
    for (const RecordedStep& step : steps_) {
      if (!step.denoises) continue;
      EXPECT_EQ(step.num_keys, step.block.end);
      if (step.rows == step.block) continue;
      EXPECT_EQ(step.rows.size(), 4);
      ++num_small;
    }
    EXPECT_GT(num_small, 5);
  }
}

// Blocks of one are refreshed at each step.
TEST_F(BlockDiffusionTest, ACacheThatIsRefreshedAlwaysIsNone) {
  for (const bool shifted : {true, false}) {
    const LoadedModel model = load(Attention::kFull, 8, shifted);
    const auto exact = ids_of(run(model, prompt_of(11), {.block_size = 1}, 12));
    for (const CanvasCache cache : {CanvasCache::kPrefix, CanvasCache::kDual}) {
      EXPECT_EQ(ids_of(run(model, prompt_of(11), {.block_size = 1, .cache = cache}, 12)), exact);
      // Larger ones are refreshed once a block.
      run(model, prompt_of(11), {.cache = cache, .rule = threshold(0.02F)}, 20);
      std::int64_t block = -1;
      for (const RecordedStep& step : steps_) {
        const bool first = step.block.begin != block;
        block = step.block.begin;
        const Range cached{block, cache == CanvasCache::kDual ? step.block.end : 31};
        EXPECT_EQ(step.rows, first ? (Range{0, 31}) : cached);
        EXPECT_EQ(step.num_keys, 31);
        if (first && shifted) {
          ASSERT_EQ(step.filled.size(), 1U);
          EXPECT_EQ(step.filled.front().position, block);
        }
      }
    }
  }
}

// Of each block that was wholly masked, one pass over what is final and all steps but one.
void expect_forwards_of_blocks(const std::vector<RecordedStep>& steps, std::int64_t block_size) {
  std::map<std::int64_t, std::pair<std::int64_t, std::int64_t>> counts;
  std::set<std::int64_t> whole;
  for (const RecordedStep& step : steps) {
    auto& [num_context, num_denoise] = counts[step.block.begin];
    (step.denoises ? num_denoise : num_context) += 1;
    const bool opens = !step.filled.empty() && step.filled.front().position == step.block.begin;
    if (!step.denoises && opens) whole.insert(step.block.begin);
  }
  EXPECT_GE(whole.size(), 4U);
  for (const std::int64_t begin : whole) {
    EXPECT_EQ(counts.at(begin), std::pair(std::int64_t{1}, block_size - 1)) << begin;
  }
}

TEST_F(BlockDiffusionTest, OneTokenAForwardAboveEveryProbability) {
  struct Case {
    Attention attention;
    std::size_t prompt;
    std::int64_t tokens;  // to the end of a block
  };
  // The pass that runs the rest of the prompt gives the first token where a block begins there.
  for (const Case& test :
       {Case{Attention::kBlock, 16, 32}, Case{Attention::kBlock, 13, 35},
        Case{Attention::kContextCausal, 13, 32}, Case{Attention::kFull, 13, 32}}) {
    const LoadedModel model = load(test.attention, 8);
    const auto result = run(model, prompt_of(test.prompt), {.rule = threshold(1.0F)}, test.tokens);
    EXPECT_EQ(result.num_forwards, test.tokens) << name_of(test.attention);
    EXPECT_EQ(result.tokens_per_forward(), 1.0);
    if (test.attention != Attention::kFull) expect_forwards_of_blocks(steps_, 8);
    const UnmaskRule one{.kind = Kind::kCount, .tokens_per_step = 1};
    EXPECT_EQ(ids_of(run(model, prompt_of(test.prompt), {.rule = one}, test.tokens)),
              ids_of(result));
  }
}

TEST_F(BlockDiffusionTest, BelowEveryProbabilityASubBlockTakesOneForward) {
  const LoadedModel model = load(Attention::kBlock, 8);
  const auto result =
      run(model, prompt_of(16), {.sub_block_size = 4, .rule = threshold(-1.0F)}, 32);
  // Of four blocks: one pass over what is final and two sub-blocks each.
  EXPECT_EQ(result.num_forwards, 12);
  EXPECT_EQ(std::count_if(steps_.begin(), steps_.end(),
                          [](const RecordedStep& step) { return step.denoises; }),
            8);
}

TEST_F(BlockDiffusionTest, TheLimitCutsWithoutChangingWhatStandsBeforeIt) {
  for (const Attention attention : {Attention::kBlock, Attention::kContextCausal}) {
    const LoadedModel model = load(attention, 8);
    const DiffusionOptions options{.rule = threshold(0.02F)};
    const auto whole = ids_of(run(model, prompt_of(11), options, 30));
    for (const std::int64_t most : {1, 5, 8, 9, 29}) {
      const auto part = ids_of(run(model, prompt_of(11), options, most));
      EXPECT_EQ(part, std::vector<std::int32_t>(whole.begin(), whole.begin() + most));
    }
  }
}

TEST_F(BlockDiffusionTest, AnAnswerEndsWithItsFirstStopToken) {
  for (const Attention attention :
       {Attention::kBlock, Attention::kContextCausal, Attention::kFull}) {
    for (const float tau : {0.02F, 1.0F}) {
      write(TinyLlama::kEnd);
      const DiffusionOptions options{.rule = threshold(tau)};
      const auto whole = ids_of(run(load(attention, 8), prompt_of(11), options, 32));
      // The same tokens, one of which ends the answer now.
      const std::int32_t stop = whole[13];
      const auto first = std::find(whole.begin(), whole.end(), stop);
      write(stop);
      const GenerateResult result = run(load(attention, 8), prompt_of(11), options, 32);
      EXPECT_EQ(ids_of(result), std::vector<std::int32_t>(whole.begin(), first + 1))
          << name_of(attention);
      EXPECT_EQ(result.finish_reason, FinishReason::kStop);
    }
  }
}

TEST_F(BlockDiffusionTest, CanvasesEndWithTheContext) {
  for (const Attention attention :
       {Attention::kBlock, Attention::kContextCausal, Attention::kFull}) {
    const LoadedModel model = load(attention, 16);
    const auto result = run(model, prompt_of(500), {.rule = threshold(0.02F)}, 100);
    EXPECT_EQ(result.samples.size(), 12U);
    EXPECT_EQ(result.finish_reason, FinishReason::kLength);
  }
}

TEST_F(BlockDiffusionTest, LongPromptsRunInChunksOfWholeBlocks) {
  const LoadedModel model = load(Attention::kBlock, 48);
  const auto with_chunk = [&](std::int64_t chunk) {
    TextGenerator generator(model, runtime_.context(), DType::kF32);
    return ids_of(generator.generate(
        prompt_of(300),
        {.max_tokens = 30, .prefill_chunk = chunk, .diffusion = {.rule = threshold(0.02F)}}));
  };
  EXPECT_EQ(with_chunk(10), with_chunk(512));
  EXPECT_EQ(with_chunk(64), with_chunk(512));
}

TEST_F(BlockDiffusionTest, AnAnswerThatGoesOnKeepsItsKeys) {
  for (const Attention attention :
       {Attention::kBlock, Attention::kContextCausal, Attention::kFull}) {
    const LoadedModel model = load(attention, 8);
    TextGenerator generator(model, runtime_.context(), DType::kF32);
    const GenerateOptions options{.max_tokens = 20, .diffusion = {.rule = threshold(0.02F)}};
    auto prompt = prompt_of(30);
    const auto first = ids_of(generator.generate(prompt, options));
    prompt.insert(prompt.end(), first.begin(), first.end());
    prompt.push_back(77);
    const GenerateResult next = generator.generate(prompt, options);
    EXPECT_EQ(next.cached_tokens > 0, attention != Attention::kFull);
    TextGenerator fresh(model, runtime_.context(), DType::kF32);
    EXPECT_EQ(ids_of(next), ids_of(fresh.generate(prompt, options))) << name_of(attention);
  }
}

TEST_F(BlockDiffusionTest, ASeedDecidesTheTokens) {
  for (const Attention attention : {Attention::kBlock, Attention::kFull}) {
    const LoadedModel model = load(attention, 8);
    const DiffusionOptions options{.rule = threshold(0.1F)};
    const auto with_seed = [&](std::uint64_t seed) {
      return ids_of(run(model, prompt_of(9), options, 30, {.temperature = 1, .seed = seed}));
    };
    EXPECT_EQ(with_seed(1), with_seed(1));
    EXPECT_NE(with_seed(1), with_seed(2));
  }
}

TEST_F(BlockDiffusionTest, StepsTellOfEachTokenOnce) {
  const LoadedModel model = load(Attention::kBlock, 8);
  const auto ids = ids_of(run(model, prompt_of(13), {.rule = threshold(0.02F)}, 35));
  std::map<std::int64_t, std::int32_t> filled;
  for (const RecordedStep& step : steps_) {
    for (const FilledToken& token : step.filled) {
      EXPECT_TRUE(filled.emplace(token.position, token.chosen.token).second);
      EXPECT_TRUE(step.block.contains(token.position));
      EXPECT_GT(token.confidence, 0.0F);
      EXPECT_LE(token.confidence, 1.0F);
    }
  }
  for (std::size_t i = 0; i < ids.size(); ++i) {
    EXPECT_EQ(filled.at(13 + static_cast<std::int64_t>(i)), ids[i]);
  }
}

TEST_F(BlockDiffusionTest, StepsTellWhatTheyWouldHaveFilled) {
  const LoadedModel model = load(Attention::kBlock, 8);
  run(model, prompt_of(13), {.sub_block_size = 4, .rule = threshold(0.3F)}, 35);
  std::set<std::int64_t> filled;
  std::size_t num_guesses = 0;
  for (const RecordedStep& step : steps_) {
    for (const FilledToken& token : step.filled) filled.insert(token.position);
    float surest = 0;
    for (const FilledToken& guess : step.guesses) {
      EXPECT_FALSE(filled.contains(guess.position));
      EXPECT_NE(guess.chosen.token, kMask);
      surest = std::max(surest, guess.confidence);
    }
    for (const FilledToken& token : step.filled) EXPECT_GE(token.confidence, surest);
    // A step is asked for all that is masked in a sub-block.
    const auto asked = step.filled.size() + step.guesses.size();
    EXPECT_LE(asked, step.denoises ? 4U : 1U);
    num_guesses += step.guesses.size();
  }
  EXPECT_GT(num_guesses, 5U);
}

TEST_F(BlockDiffusionTest, RowsOfItsPassesAreCounted) {
  struct Case {
    Attention attention;
    CanvasCache cache;
  };
  for (const Case& test :
       {Case{Attention::kBlock, CanvasCache::kNone},
        Case{Attention::kBlock, CanvasCache::kSubBlock}, Case{Attention::kFull, CanvasCache::kDual},
        Case{Attention::kFull, CanvasCache::kNone}}) {
    const LoadedModel model = load(test.attention, 8);
    const DiffusionOptions options{
        .sub_block_size = 4, .cache = test.cache, .rule = threshold(0.02F)};
    const GenerateResult result = run(model, prompt_of(16), options, 24);
    std::int64_t rows = 0;
    for (const RecordedStep& step : steps_) rows += step.rows.size();
    EXPECT_EQ(std::ssize(steps_), result.num_forwards);
    EXPECT_EQ(result.num_forward_rows, rows);
  }
}

TEST_F(BlockDiffusionTest, AModelMaySayItsSubBlock) {
  const DiffusionConfig model{Attention::kBlock, 16, true, kMask, "", 4};
  EXPECT_EQ(decide(model, {}).sub_block_size, 4);
  EXPECT_EQ(decide(model, {.sub_block_size = 8}).sub_block_size, 8);
  // Blocks of another size that it does not divide are as if it had said nothing.
  EXPECT_EQ(decide(model, {.block_size = 6}).sub_block_size, 6);
  EXPECT_EQ(decide(model, {.block_size = 1}).sub_block_size, 1);
}

TEST_F(BlockDiffusionTest, WhatDoesNotFitIsRefused) {
  const DiffusionConfig block{Attention::kBlock, 8, true, kMask, ""};
  const DiffusionConfig full{Attention::kFull, 8, true, kMask, ""};
  EXPECT_THROW(decide(block, {.block_size = -1}), InvalidArgument);
  EXPECT_THROW(decide(block, {.sub_block_size = 3}), InvalidArgument);
  EXPECT_THROW(decide(block, {.cache = CanvasCache::kDual}), InvalidArgument);
  EXPECT_THROW(decide(full, {.cache = CanvasCache::kBlock}), InvalidArgument);
  EXPECT_THROW(decide(block, {.rule = threshold(std::nanf(""))}), InvalidArgument);
  EXPECT_THROW(decide(block, {.rule = {.kind = Kind::kCount, .tokens_per_step = 0}}),
               InvalidArgument);
  EXPECT_THROW(decide(block, {.confidence = Confidence::kEntropy}), InvalidArgument);
  EXPECT_THROW(decide(block, {.window = 4}), InvalidArgument);
  EXPECT_THROW(decide(full, {.window = 4, .cache = CanvasCache::kDual}), InvalidArgument);
  EXPECT_THROW(decide(block, {.cache = CanvasCache::kElastic}), InvalidArgument);
  const LoadedModel model = load(Attention::kBlock, 8);
  EXPECT_THROW(run(model, prompt_of(3), {}, 5, {.repetition_penalty = 1.1F}), InvalidArgument);
  TextGenerator generator(model, runtime_.context(), DType::kF32);
  EXPECT_THROW(generator.generate(prompt_of(3), {.layer_masks = {2, Mask::causal()}}),
               InvalidArgument);
}

}  // namespace
}  // namespace perpend
