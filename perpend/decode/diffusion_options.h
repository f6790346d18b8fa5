#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "perpend/cache/canvas_rows.h"
#include "perpend/decode/sampler.h"
#include "perpend/decode/unmask_rule.h"
#include "perpend/models/diffusion.h"
#include "perpend/models/elastic_model.h"

namespace perpend {

// A token that a step made final, or would have had next.
struct FilledToken {
  std::int64_t position = 0;  // in the canvas, which begins with the prompt
  TokenLogprob chosen;
  float confidence = 0.0F;
};

// What a step of a diffusion model did.
struct CanvasStep {
  bool denoises = false;  // or runs tokens that are final, for their keys and what follows them
  Range block;            // that is open
  Range rows;             // that were computed
  std::int64_t num_keys = 0;
  std::span<const FilledToken> filled;
  std::span<const FilledToken> guesses;  // of the tokens that it could have filled and did not
};

// How a diffusion model is run, as far as it is not the model's own.
struct DiffusionOptions {
  std::int64_t block_size = 0;  // 0: the model's; 1: one token after another
  // Filled from left to right inside a block; 0: the model's, where it has one that divides the
  // block; else 8 for models of kBlock whose blocks it divides, a whole block for all others.
  std::int64_t sub_block_size = 0;
  // Full attention alone: no blocks, but a step may fill any of so many masked tokens from the left
  // (Elastic-Cache, section 2); 0: blocks.
  std::int64_t window = 0;
  std::optional<CanvasCache> cache = {};  // absent: the exact one that keeps most
  ElasticConfig elastic = {};             // of the cache elastic, whose window is 16 unless given
  UnmaskRule rule = {};
  Confidence confidence = Confidence::kProbability;
  std::function<void(const CanvasStep&)> on_step = {};
};

// The same with everything decided.
struct DiffusionSetting {
  DiffusionConfig model;  // with the block size that is used
  std::int64_t sub_block_size = 0;
  std::int64_t window = 0;
  CanvasCache cache = CanvasCache::kNone;
  UnmaskRule rule;
  Confidence confidence = Confidence::kProbability;

  bool is_full() const { return model.attention == DiffusionAttention::kFull; }
};

// Throws InvalidArgument for sizes that do not fit each other, a cache that is not for the model
// and a rule that is not for the confidence.
DiffusionSetting decide(const DiffusionConfig& model, const DiffusionOptions& options);

// Options whose cache is exact and keeps most; blocks, window and rule are those of `options`.
// Throws as decide() does.
DiffusionOptions exact_options(const DiffusionConfig& model, const DiffusionOptions& options);

}  // namespace perpend
