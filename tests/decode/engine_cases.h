#pragma once

#include <array>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "perpend/core/random.h"
#include "perpend/decode/engine.h"
#include "perpend/decode/text_generator.h"
#include "perpend/mask/mask_parser.h"

namespace perpend {

// A request of random kind for a tiny model.
struct EngineCase {
  std::vector<std::int32_t> prompt;
  GenerateOptions options;
  std::optional<int> pieces = {};  // of text after which the listener has enough

  // `kind`: of the model, absent for one without diffusion.
  static EngineCase random(Random& random, std::optional<DiffusionAttention> kind) {
    EngineCase request;
    // Often around a page of 64 or a block.
    constexpr std::array<std::size_t, 12> kLengths = {1, 2, 7, 8, 9, 31, 63, 64, 65, 100, 129, 150};
    request.prompt.resize(kLengths[random.next_below(kLengths.size())]);
    for (std::int32_t& token : request.prompt) {
      token = static_cast<std::int32_t>(random.next_below(190) + 1);
    }
    GenerateOptions& options = request.options;
    options.max_tokens =
        1 + static_cast<std::int64_t>(random.next_below(pick<std::uint64_t>(random, {40, 120})));
    options.sampler = random_sampler(random);
    options.prefill_chunk = pick<std::int64_t>(random, {8, 64, 100, 512});
    options.num_top_logprobs = static_cast<int>(random.next_below(3));
    if (random.next_below(3) == 0) options.stop = {std::string(1, pick(random, {'a', 'e', '!'}))};
    if (random.next_below(6) == 0) request.pieces = static_cast<int>(random.next_below(10));
    if (kind) {
      options.diffusion = random_diffusion(random, *kind);
    } else {
      options.sampler.repetition_penalty = pick(random, {1.0F, 1.0F, 1.3F});
      if (random.next_below(3) == 0) {
        options.layer_masks = {parse_mask("causal & (sink(4) | window(20))"), Mask::causal()};
      }
    }
    return request;
  }

  // What may tell why it fails.
  std::string text() const {
    const DiffusionOptions& diffusion = options.diffusion;
    return concat("prompt ", prompt.size(), ", max ", options.max_tokens, ", temperature ",
                  options.sampler.temperature, ", chunk ", options.prefill_chunk, ", masks ",
                  options.layer_masks.size(), ", block ", diffusion.block_size, ", threshold ",
                  diffusion.rule.threshold, ", cache ",
                  diffusion.cache ? name_of(*diffusion.cache) : "usual");
  }

  // A listener that has enough after `pieces`; appends to `text`.
  GenerateCallbacks listener(std::string& text) const {
    GenerateCallbacks callbacks;
    callbacks.on_text = [&text, left = pieces](std::string_view piece) mutable {
      text += piece;
      return !left || --*left >= 0;
    };
    return callbacks;
  }

 private:
  template <class T>
  static T pick(Random& random, std::initializer_list<T> choices) {
    return choices.begin()[random.next_below(choices.size())];
  }

  static SamplerOptions random_sampler(Random& random) {
    SamplerOptions sampler;
    if (random.next_below(2) == 0) return sampler;
    sampler.temperature = pick(random, {0.7F, 1.0F, 1.5F});
    sampler.top_k = pick(random, {0, 0, 5});
    sampler.top_p = pick(random, {1.0F, 0.9F});
    sampler.min_p = pick(random, {0.0F, 0.02F});
    sampler.seed = random.next_below(4);
    return sampler;
  }

  static DiffusionOptions random_diffusion(Random& random, DiffusionAttention kind) {
    DiffusionOptions options;
    options.block_size = pick<std::int64_t>(random, {0, 1, 4, 16});
    options.rule.threshold = pick(random, {-1.0F, 0.02F, 0.05F, 1.0F});
    if (kind != DiffusionAttention::kFull) {
      options.cache = pick(random, {CanvasCache::kNone, CanvasCache::kBlock, CanvasCache::kBlock,
                                    CanvasCache::kSubBlock});
      return options;
    }
    options.cache = pick(random, {CanvasCache::kNone, CanvasCache::kPrefix, CanvasCache::kDual,
                                  CanvasCache::kElastic});
    if (options.cache == CanvasCache::kElastic) {
      options.window = 4;
      options.elastic.gamma = pick(random, {0.5F, 0.9F, 0.99F});
    }
    return options;
  }
};

}  // namespace perpend
