// Elastic-Cache (arXiv:2510.14973): what it is equal to, where it refreshes, what it computes.

#include <set>

#include <gmock/gmock.h>

#include "perpend/cache/cache_policy.h"
#include "perpend/decode/block_diffusion.h"
#include "perpend/decode/block_loop.h"
#include "perpend/models/kv_store_config.h"
#include "tests/decode/tiny_diffusion.h"

namespace perpend {
namespace {

using ElasticCacheTest = TinyDiffusion;
using Attention = DiffusionAttention;

TEST_F(ElasticCacheTest, AWindowOverTheCanvasIsOneBlockOfIt) {
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

TEST_F(ElasticCacheTest, ElasticThatRefreshesAlwaysIsNoCache) {
  for (const bool shifted : {true, false}) {
    const LoadedModel model = load(Attention::kFull, 24, shifted);
    DiffusionOptions options{.rule = threshold(0.02F)};
    const auto one_block = ids_of(run(model, prompt_of(11), options, 24));
    for (const std::int64_t window : {6, 24}) {
      options.window = window;
      options.cache = CanvasCache::kNone;
      const auto exact = ids_of(run(model, prompt_of(11), options, 24));
      options.cache = CanvasCache::kElastic;
      for (const float gamma : {0.0F, 0.9F, 2.0F}) {
        options.elastic = {.gamma = gamma, .refreshes_always = true};
        const auto found = ids_of(run(model, prompt_of(11), options, 24));
        EXPECT_EQ(found, exact) << window << ", gamma " << gamma;
        // A window over the canvas decodes as one block does.
        if (window == 24) {
          EXPECT_EQ(found, one_block);
        }
      }
    }
  }
}

TEST_F(ElasticCacheTest, TheFirstStepIsThatWithoutACache) {
  for (const bool shifted : {true, false}) {
    const LoadedModel model = load(DiffusionAttention::kFull, 8, shifted);
    DiffusionOptions options{.window = 6, .rule = threshold(0.02F)};
    run(model, prompt_of(11), options, 24);
    const RecordedStep exact = steps_.front();
    options.cache = CanvasCache::kElastic;
    run(model, prompt_of(11), options, 24);
    const RecordedStep& first = steps_.front();
    const auto expect_equal = [](const auto& found, const auto& expected) {
      ASSERT_EQ(found.size(), expected.size());
      for (std::size_t i = 0; i < found.size(); ++i) {
        EXPECT_EQ(found[i].position, expected[i].position);
        EXPECT_EQ(found[i].chosen.token, expected[i].chosen.token);
        EXPECT_NEAR(found[i].confidence, expected[i].confidence, 1e-5);
      }
    };
    expect_equal(first.filled, exact.filled);
    expect_equal(first.guesses, exact.guesses);
    EXPECT_EQ(first.filled.size() + first.guesses.size(), 6U);
  }
}

// Where every token is tracked or wanted, steps that refresh nothing compute everything.
TEST_F(ElasticCacheTest, ElasticThatTracksEverythingIsNoCache) {
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
TEST_F(ElasticCacheTest, ElasticIsExactWithOneLayer) {
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

TEST_F(ElasticCacheTest, GammaDecidesWhereElasticRefreshes) {
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
TEST_F(ElasticCacheTest, LayersThatRanInVainChangeNothing) {
  write(TinyLlama::kEnd, 5);
  const LoadedModel model = load(Attention::kFull, 8);
  DiffusionOptions options{.window = 6, .cache = CanvasCache::kElastic, .rule = threshold(0.02F)};
  std::set<int> boundaries;
  for (const float gamma : {0.5F, 0.6F, 0.7F, 0.8F, 0.85F, 0.9F, 0.95F}) {
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

TEST_F(ElasticCacheTest, BoundariesMayBeReplayed) {
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

TEST_F(ElasticCacheTest, ElasticEndsWithAStopTokenToo) {
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

// --- What a step computes and leaves alone (section 2.2)

struct ElasticStepRecord {
  RecordedStep canvas;
  std::vector<std::int32_t> tracked;      // after the step
  int boundary;                           // of the step
  std::int64_t num_layer_rows;            // up to and with it
  std::vector<std::vector<float>> cache;  // keys and values [layer][canvas rows, ...]
};

// Keys and values of a layer, row after row.
std::vector<float> cached_rows(const KvSequence& sequence, int layer, std::int64_t num_rows) {
  std::vector<float> values;
  for (const TensorView& pages : {sequence.store().k_pages(), sequence.store().v_pages()}) {
    const auto* data = static_cast<const float*>(pages.data);
    for (std::int64_t row = 0; row < num_rows; ++row) {
      const std::int64_t slot = sequence.slot(layer, row);
      const std::int64_t page_size = pages.size(1);
      for (std::int64_t head = 0; head < pages.size(2); ++head) {
        for (std::int64_t i = 0; i < pages.size(3); ++i) {
          values.push_back(
              data[slot / page_size * pages.stride(0) + slot % page_size * pages.stride(1) +
                   head * pages.stride(2) + i * pages.stride(3)]);
        }
      }
    }
  }
  return values;
}

std::vector<ElasticStepRecord> elastic_steps(const LoadedModel& model, Context& context,
                                             const std::vector<std::int32_t>& prompt,
                                             std::int64_t length, const ElasticConfig& elastic) {
  const ModelConfig& config = model.config();
  const DiffusionSetting setting =
      decide(*model.diffusion(),
             {.window = 6, .cache = CanvasCache::kElastic, .rule = {.threshold = 0.02F}});
  KvStore store(kv_store_config(config, DType::kF32, config.context_length));
  KvSequence sequence(store);
  ExactPolicy policy;
  ElasticState state;
  const LanguageModel& network = model.network();
  const ElasticModel cached(network, *network.layerwise(), elastic, kMask, state);
  const std::vector<Mask> masks(static_cast<std::size_t>(config.num_layers),
                                context_mask(setting.model));
  std::vector<ElasticStepRecord> steps;
  BlockLoop loop(cached, context, sequence, policy, masks);
  const auto prompt_tokens = static_cast<std::int64_t>(prompt.size());
  BlockDiffusion denoiser(
      setting, {},
      {.prompt_tokens = prompt_tokens,
       .max_tokens = length,
       .context_length = config.context_length,
       .num_layers = config.num_layers,
       .num_top_logprobs = 0,
       .is_stop = {}},
      [&](const CanvasStep& step) {
        ElasticStepRecord record{
            RecordedStep(step), state.tracked, state.boundaries.back(), state.num_layer_rows, {}};
        for (int layer = 0; layer < config.num_layers; ++layer) {
          record.cache.push_back(cached_rows(sequence, layer, prompt_tokens + length));
        }
        steps.push_back(std::move(record));
      });
  loop.push(prompt);
  loop.next_block(denoiser);
  return steps;
}

using Positions = std::set<std::int64_t>;

Positions positions_of(const std::vector<FilledToken>& tokens, std::int64_t shift = 0) {
  Positions positions;
  for (const FilledToken& token : tokens) positions.insert(token.position - shift);
  return positions;
}

Positions joined(Positions all, const Positions& more) {
  all.insert(more.begin(), more.end());
  return all;
}

// The rows that a step computes where nothing drifts, from what is known before it.
struct ElasticRows {
  ElasticRows(const ElasticStepRecord& before, const ElasticStepRecord& step, std::int64_t shift)
      : tracked(before.tracked.begin(), before.tracked.end()),
        fresh(positions_of(before.canvas.filled)),
        wanted(joined(positions_of(step.canvas.filled, shift),
                      positions_of(step.canvas.guesses, shift))),
        all(joined(joined(tracked, fresh), wanted)) {}

  Positions tracked;
  Positions fresh;   // filled by the step before
  Positions wanted;  // whose logits the step takes
  Positions all;
};

class ElasticStepTest : public TinyDiffusion, public testing::WithParamInterface<bool> {
 protected:
  static constexpr int kLayers = 3;
  static constexpr std::int64_t kLength = 24;
  static constexpr std::int64_t kCanvas = 11 + kLength;

  ElasticStepTest() { write(TinyLlama::kEnd, kLayers); }

  std::int64_t shift() const { return GetParam() ? 1 : 0; }
  std::vector<ElasticStepRecord> steps(const ElasticConfig& elastic) {
    const LoadedModel model = load(DiffusionAttention::kFull, 8, GetParam());
    return elastic_steps(model, runtime_.context(), prompt_of(11), kLength, elastic);
  }
};
INSTANTIATE_TEST_SUITE_P(Shift, ElasticStepTest, testing::Bool());

TEST_P(ElasticStepTest, ComputesTrackedFreshAndWantedRowsOnce) {
  std::set<int> boundaries;
  for (const float gamma : {0.0F, 0.3F, 0.6F, 0.8F, 0.9F, 0.97F, 0.99F, 2.0F}) {
    for (const int num_tracked : {1, 3}) {
      const auto all = steps({.gamma = gamma, .num_tracked = num_tracked});
      ASSERT_LE(std::ssize(all), kLength);
      EXPECT_EQ(all.front().num_layer_rows, kLayers * kCanvas);
      Positions masked;
      for (std::int64_t i = kCanvas - kLength; i < kCanvas; ++i) masked.insert(i);
      for (std::size_t i = 0; i < all.size(); ++i) {
        const Positions filled = positions_of(all[i].canvas.filled);
        EXPECT_FALSE(filled.empty());
        for (const std::int64_t position : filled) EXPECT_EQ(masked.erase(position), 1U);
        EXPECT_LE(std::ssize(all[i].tracked), kLayers * num_tracked);
        if (i == 0) continue;
        const ElasticRows rows(all[i - 1], all[i], shift());
        // Rows of predictions before an open token may be those of a token that was just filled.
        if (shift() == 0) {
          EXPECT_EQ(rows.all.size(), rows.tracked.size() + rows.fresh.size() + rows.wanted.size());
        }
        const std::int64_t few = all[i].boundary;
        EXPECT_EQ(all[i].num_layer_rows - all[i - 1].num_layer_rows,
                  few * std::ssize(rows.all) + (kLayers - few) * kCanvas);
        boundaries.insert(all[i].boundary);
      }
      EXPECT_TRUE(masked.empty());
    }
  }
  EXPECT_EQ(boundaries, (std::set{1, 2, 3}));
}

TEST_P(ElasticStepTest, LeavesOtherRowsOfTheCacheAsTheyAre) {
  std::size_t num_changed = 0;
  for (const float gamma : {0.0F, 0.97F}) {
    const auto all = steps({.gamma = gamma});
    for (std::size_t i = 1; i < all.size(); ++i) {
      const ElasticRows rows(all[i - 1], all[i], shift());
      for (int layer = 0; layer < all[i].boundary; ++layer) {
        const auto& before = all[i - 1].cache[static_cast<std::size_t>(layer)];
        const auto& after = all[i].cache[static_cast<std::size_t>(layer)];
        const std::size_t row_size = before.size() / (2 * kCanvas);
        for (std::size_t value = 0; value < before.size(); ++value) {
          const auto row = static_cast<std::int64_t>(value / row_size) % kCanvas;
          const bool same = before[value] == after[value];
          if (rows.all.contains(row)) {
            num_changed += same ? 0 : 1;
          } else {
            ASSERT_TRUE(same) << "step " << i << ", layer " << layer << ", row " << row;
          }
        }
      }
    }
  }
  EXPECT_GT(num_changed, 1000U);
}

}  // namespace
}  // namespace perpend
