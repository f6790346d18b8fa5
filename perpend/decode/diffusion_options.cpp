#include "perpend/decode/diffusion_options.h"

#include "perpend/core/error.h"

namespace perpend {
namespace {

constexpr std::int64_t kUsualSubBlock = 8;
constexpr std::int64_t kUsualWindow = 16;

std::int64_t usual_sub_block(const DiffusionConfig& model) {
  if (model.sub_block_size > 0 && model.block_size % model.sub_block_size == 0) {
    return model.sub_block_size;
  }
  const bool divides = model.block_size % kUsualSubBlock == 0;
  return model.attention == DiffusionAttention::kBlock && divides ? kUsualSubBlock
                                                                  : model.block_size;
}

std::int64_t window_of(const DiffusionSetting& setting, std::int64_t wanted) {
  check(wanted >= 0, concat("diffusion: window must not be negative (", wanted, ")"));
  check(wanted == 0 || setting.is_full(), "diffusion: a window is for full attention alone");
  check(wanted == 0 || !keeps_stale_prefix(setting.cache),
        concat("diffusion: cache ", name_of(setting.cache),
               " needs blocks; with a window none and elastic can be"));
  return wanted == 0 && setting.cache == CanvasCache::kElastic ? kUsualWindow : wanted;
}

void check_cache(const DiffusionSetting& setting) {
  if (setting.cache == CanvasCache::kNone) return;
  const bool fits = setting.is_full() != keeps_finished(setting.cache);
  check(fits, concat("diffusion: cache ", name_of(setting.cache), " is not for attention ",
                     name_of(setting.model.attention),
                     setting.is_full() ? "; none, prefix, dual and elastic are"
                                       : "; none, block and sub-block are"));
}

}  // namespace

DiffusionSetting decide(const DiffusionConfig& model, const DiffusionOptions& options) {
  check(options.block_size >= 0 && options.sub_block_size >= 0,
        concat("diffusion: sizes of blocks must not be negative (", options.block_size, ", ",
               options.sub_block_size, ")"));
  check_rule(options.rule);
  DiffusionSetting setting{.model = model, .rule = options.rule, .confidence = options.confidence};
  if (options.block_size > 0) setting.model.block_size = options.block_size;
  setting.sub_block_size =
      options.sub_block_size > 0 ? options.sub_block_size : usual_sub_block(setting.model);
  check(setting.model.block_size % setting.sub_block_size == 0,
        concat("diffusion: block size must be a multiple of the sub-block's (",
               setting.model.block_size, " vs ", setting.sub_block_size, ")"));
  setting.cache =
      options.cache.value_or(setting.is_full() ? CanvasCache::kNone : CanvasCache::kBlock);
  check_cache(setting);
  setting.window = window_of(setting, options.window);
  // Version 1 of Fast-dLLM, which is for full attention, takes the threshold itself too.
  setting.rule.includes_threshold = setting.is_full();
  const bool by_probability = options.rule.kind == UnmaskRule::Kind::kThreshold ||
                              options.rule.kind == UnmaskRule::Kind::kFactor;
  check(!by_probability || options.confidence == Confidence::kProbability,
        "diffusion: thresholds and factors are for the confidence probability; others need a "
        "number of tokens or steps");
  return setting;
}

DiffusionOptions exact_options(const DiffusionConfig& model, const DiffusionOptions& options) {
  DiffusionOptions exact = options;
  exact.window = decide(model, options).window;  // that of the cache elastic is another's too
  exact.cache.reset();
  return exact;
}

}  // namespace perpend
