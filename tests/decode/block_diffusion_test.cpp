#include "perpend/decode/block_diffusion.h"

#include <map>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/decode/text_generator.h"
#include "perpend/nn/runtime.h"
#include "tests/decode/tiny_llama.h"
#include "tests/io/temporary_folder.h"

namespace perpend {
namespace {

using Attention = DiffusionAttention;
using Kind = UnmaskRule::Kind;

constexpr std::int32_t kMask = 200;

std::vector<std::int32_t> ids_of(const GenerateResult& result) {
  std::vector<std::int32_t> ids;
  for (const Sample& sample : result.samples) ids.push_back(sample.chosen.token);
  return ids;
}

UnmaskRule threshold(float value) { return {.kind = Kind::kThreshold, .threshold = value}; }

// One tiny random network, run as every kind of diffusion model. No token of it ends an answer
// unless a test says so.
class BlockDiffusionTest : public testing::Test {
 protected:
  BlockDiffusionTest() { write(TinyLlama::kEnd); }

  void write(std::int32_t end_token, std::int64_t num_layers = 2) {
    const TinyLlama::Weight random = TinyLlama::random(5);
    // Many rows would rather have the mask token than any other, and few the end.
    TinyLlama{
        .num_layers = num_layers,
        .end_token = end_token,
        .weight =
            [random](const std::string& tensor, std::int64_t row, std::int64_t column) mutable {
              const float value = random(tensor, row, column);
              if (tensor != "output.weight") return value;
              return row == kMask ? 8 * value : row == TinyLlama::kEnd ? 0 : value;
            }}
        .write(path_);
  }

  LoadedModel load(Attention attention, std::int64_t block_size, bool shifted = true) {
    LoadOptions options;
    options.changes.diffusion = DiffusionConfig{attention, block_size, shifted, kMask, ""};
    return {path_, LinearMode::kF32, runtime_.context(), options};
  }
  LoadedModel load_plain() { return {path_, LinearMode::kF32, runtime_.context()}; }

  // Steps of the last call are kept.
  GenerateResult run(const LoadedModel& model, const std::vector<std::int32_t>& prompt,
                     DiffusionOptions options, std::int64_t max_tokens = 40,
                     const SamplerOptions& sampler = {}) {
    steps_.clear();
    options.on_step = [&](const CanvasStep& step) {
      steps_.push_back({step, {step.filled.begin(), step.filled.end()}});
      EXPECT_TRUE(!step.denoises || !step.filled.empty());
    };
    TextGenerator generator(model, runtime_.context(), DType::kF32);
    return generator.generate(
        prompt, {.max_tokens = max_tokens, .sampler = sampler, .diffusion = std::move(options)});
  }

  std::vector<std::int32_t> prompt_of(std::size_t length) const {
    std::vector<std::int32_t> prompt(length);
    for (std::size_t i = 0; i < length; ++i)
      prompt[i] = static_cast<std::int32_t>(i * 37 % 190 + 1);
    return prompt;
  }

  TemporaryFolder folder_;
  std::string path_ = folder_.file("tiny.gguf");
  Runtime runtime_{1};
  struct RecordedStep : CanvasStep {
    std::vector<FilledToken> filled;  // a copy
  };
  std::vector<RecordedStep> steps_;
};

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
    // With smaller ones it computes fewer rows, and the first step of each sees all of the block.
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

// --- Elastic-Cache

TEST_F(BlockDiffusionTest, AWindowOverTheCanvasIsOneBlockOfIt) {
  for (const bool shifted : {true, false}) {
    const LoadedModel model = load(Attention::kFull, 24, shifted);
    const UnmaskRule rule = threshold(0.02F);
    const auto block = ids_of(run(model, prompt_of(11), {.rule = rule}, 24));
    EXPECT_EQ(ids_of(run(model, prompt_of(11), {.window = 24, .rule = rule}, 24)), block);
    run(model, prompt_of(11), {.window = 5, .rule = rule}, 24);
    std::vector<bool> filled(24);
    for (const RecordedStep& step : steps_) {
      EXPECT_EQ(step.rows, (Range{0, 35}));
      for (const FilledToken& token : step.filled) {
        // At most four of those to its left are still masked.
        const auto end = filled.begin() + token.position - 11;
        EXPECT_LT(std::count(filled.begin(), end, false), 5);
      }
      for (const FilledToken& token : step.filled) {
        filled[static_cast<std::size_t>(token.position - 11)] = true;
      }
    }
  }
}

TEST_F(BlockDiffusionTest, ElasticThatRefreshesAlwaysIsNoCache) {
  for (const bool shifted : {true, false}) {
    const LoadedModel model = load(Attention::kFull, 8, shifted);
    DiffusionOptions options{.window = 6, .rule = threshold(0.02F)};
    const auto exact = ids_of(run(model, prompt_of(11), options, 24));
    options.cache = CanvasCache::kElastic;
    options.elastic = {.gamma = 0, .refreshes_always = true};
    EXPECT_EQ(ids_of(run(model, prompt_of(11), options, 24)), exact);
  }
}

// Where every token is tracked or wanted, steps that refresh nothing compute everything.
TEST_F(BlockDiffusionTest, ElasticThatTracksEverythingIsNoCache) {
  const LoadedModel model = load(Attention::kFull, 8);
  DiffusionOptions options{.window = 24, .rule = threshold(0.02F)};
  const auto exact = ids_of(run(model, prompt_of(11), options, 24));
  options.cache = CanvasCache::kElastic;
  options.elastic = {.gamma = 2, .num_tracked = 1000};
  const GenerateResult result = run(model, prompt_of(11), options, 24);
  EXPECT_EQ(ids_of(result), exact);
  EXPECT_EQ(result.elastic_layer_rows, 2 * 35 * result.num_forwards);
}

// The keys of the first layer depend on tokens and positions alone.
TEST_F(BlockDiffusionTest, ElasticIsExactWithOneLayer) {
  write(TinyLlama::kEnd, 1);
  for (const bool shifted : {true, false}) {
    const LoadedModel model = load(Attention::kFull, 8, shifted);
    DiffusionOptions options{.window = 6, .rule = threshold(0.02F)};
    const auto exact = ids_of(run(model, prompt_of(11), options, 24));
    options.cache = CanvasCache::kElastic;
    for (const float gamma : {-1.0F, 0.9F, 2.0F}) {
      for (const auto similarity :
           {ElasticConfig::Similarity::kHeads, ElasticConfig::Similarity::kKeys}) {
        options.elastic = {.gamma = gamma, .similarity = similarity};
        EXPECT_EQ(ids_of(run(model, prompt_of(11), options, 24)), exact);
      }
    }
  }
}

TEST_F(BlockDiffusionTest, GammaDecidesWhereElasticRefreshes) {
  write(TinyLlama::kEnd, 4);
  const LoadedModel model = load(Attention::kFull, 8);
  DiffusionOptions options{.window = 6, .cache = CanvasCache::kElastic, .rule = threshold(1.0F)};
  // Never: cosines of weights are not negative. Always: behind the first layer.
  for (const auto& [gamma, boundary] : {std::pair{0.0F, 4}, std::pair{2.0F, 1}}) {
    options.elastic.gamma = gamma;
    const GenerateResult result = run(model, prompt_of(11), options, 24);
    EXPECT_EQ(std::ssize(result.elastic_boundaries), result.num_forwards);
    std::vector<int> expected(result.elastic_boundaries.size(), boundary);
    expected.front() = 0;
    EXPECT_EQ(result.elastic_boundaries, expected);
    // Of the 35 rows a layer computes some before the boundary and all from it on.
    const std::int64_t all = 4 * 35 * result.num_forwards;
    const bool computes_most = result.elastic_layer_rows > all * 3 / 4;
    EXPECT_EQ(computes_most, boundary == 1) << result.elastic_layer_rows << " of " << all;
  }
}

// However many layers run before drift is asked for.
TEST_F(BlockDiffusionTest, LayersThatRanInVainChangeNothing) {
  write(TinyLlama::kEnd, 5);
  const LoadedModel model = load(Attention::kFull, 8);
  DiffusionOptions options{.window = 6, .cache = CanvasCache::kElastic, .rule = threshold(0.02F)};
  std::set<int> boundaries;
  for (const float gamma : {0.93F, 0.97F, 0.99F, 0.998F}) {
    options.elastic = {.gamma = gamma, .layers_together = 1};
    const GenerateResult expected = run(model, prompt_of(11), options, 24);
    boundaries.insert(expected.elastic_boundaries.begin(), expected.elastic_boundaries.end());
    for (const int together : {2, 3, 100}) {
      options.elastic.layers_together = together;
      const GenerateResult result = run(model, prompt_of(11), options, 24);
      EXPECT_EQ(ids_of(result), ids_of(expected));
      EXPECT_EQ(result.elastic_boundaries, expected.elastic_boundaries);
      EXPECT_EQ(result.elastic_layer_rows, expected.elastic_layer_rows);
    }
  }
  EXPECT_GT(boundaries.size(), 2U);  // some in the middle
}

TEST_F(BlockDiffusionTest, BoundariesMayBeReplayed) {
  write(TinyLlama::kEnd, 4);
  const LoadedModel model = load(Attention::kFull, 8);
  DiffusionOptions options{.window = 6, .cache = CanvasCache::kElastic, .rule = threshold(1.0F)};
  int step = 0;
  options.elastic.replay = {.boundary = [&](int num_layers) { return step++ % (num_layers + 1); },
                            .tracked = {2, 5},
                            .num_measurements = 2};
  const GenerateResult result = run(model, prompt_of(11), options, 24);
  const std::vector<int>& found = result.elastic_boundaries;
  EXPECT_EQ(found.front(), 0);
  for (std::size_t i = 1; i < found.size(); ++i) {
    EXPECT_EQ(found[i], static_cast<int>(i - 1) % 5);
  }
}

TEST_F(BlockDiffusionTest, ElasticEndsWithAStopTokenToo) {
  for (const CanvasCache cache : {CanvasCache::kNone, CanvasCache::kElastic}) {
    write(TinyLlama::kEnd);
    const DiffusionOptions options{.window = 6, .cache = cache, .rule = threshold(0.02F)};
    const auto whole = ids_of(run(load(Attention::kFull, 8), prompt_of(11), options, 32));
    const std::int32_t stop = whole[9];
    write(stop);
    const auto ids = ids_of(run(load(Attention::kFull, 8), prompt_of(11), options, 32));
    EXPECT_EQ(ids.back(), stop);
    EXPECT_EQ(std::count(ids.begin(), ids.end(), stop), 1);
    EXPECT_THAT(ids, testing::Not(testing::Contains(kMask)));
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
