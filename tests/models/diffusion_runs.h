#pragma once

#include <vector>

#include <nlohmann/json.hpp>

#include "perpend/decode/block_diffusion.h"
#include "perpend/decode/block_loop.h"
#include "perpend/models/kv_store_config.h"
#include "perpend/models/llama.h"

namespace perpend {

// {"rule": "threshold" | "factor" | "steps", "value": number}
inline UnmaskRule rule_of(const nlohmann::json& spec) {
  UnmaskRule rule;
  const std::string kind = spec["rule"];
  if (kind == "threshold") rule.threshold = spec["value"];
  if (kind == "factor") rule = {.kind = UnmaskRule::Kind::kFactor, .factor = spec["value"]};
  if (kind == "steps") rule = {.kind = UnmaskRule::Kind::kSteps, .num_steps = spec["value"]};
  return rule;
}

inline ElasticConfig elastic_of(const nlohmann::json& spec) {
  ElasticConfig elastic;
  if (!spec.contains("gamma")) return elastic;
  elastic.gamma = spec["gamma"];
  elastic.num_tracked = spec["track"];
  elastic.similarity = spec["similarity"] == "heads" ? ElasticConfig::Similarity::kHeads
                                                     : ElasticConfig::Similarity::kKeys;
  elastic.refreshes_always = spec["always"];
  return elastic;
}

// One answer of a network that fills masked tokens, as {"tokens", "forwards" (of denoising),
// "boundaries", "layer_rows" (see ElasticState)}. Keys of `spec`: prompt, max_tokens, block,
// sub_block, cache, stop and those of rule_of(); for the cache elastic those of elastic_of() and
// window.
inline nlohmann::json run_diffusion(const Llama& network, const nlohmann::json& spec,
                                    Context& context) {
  const ModelConfig& config = network.config();
  const DiffusionSetting setting =
      decide(*config.diffusion, {.block_size = spec["block"],
                                 .sub_block_size = spec["sub_block"],
                                 .window = spec.value("window", 0),
                                 .cache = parse_canvas_cache(spec["cache"].get<std::string>()),
                                 .rule = rule_of(spec)});
  ElasticState state;
  const ElasticModel elastic(network, network, elastic_of(spec), config.diffusion->mask_token_id,
                             state);
  const bool is_elastic = setting.cache == CanvasCache::kElastic;
  const LanguageModel& model = is_elastic ? static_cast<const LanguageModel&>(elastic) : network;
  KvStore store(kv_store_config(config, DType::kF32, config.context_length));
  KvSequence sequence(store);
  ExactPolicy policy;
  const std::vector<Mask> masks(static_cast<std::size_t>(config.num_layers),
                                context_mask(setting.model));
  BlockLoop loop(model, context, sequence, policy, masks);
  const auto prompt = spec["prompt"].get<std::vector<std::int32_t>>();
  const auto end = static_cast<std::size_t>(spec["max_tokens"].get<std::int64_t>()) + prompt.size();
  const auto is_stop = [stop = spec["stop"].get<std::int32_t>()](std::int32_t token) {
    return token == stop;
  };
  std::int64_t forwards = 0;
  BlockDiffusion denoiser(setting, {},
                          {.prompt_tokens = static_cast<std::int64_t>(prompt.size()),
                           .max_tokens = spec["max_tokens"],
                           .context_length = config.context_length,
                           .num_layers = config.num_layers,
                           .num_top_logprobs = 0,
                           .is_stop = is_stop},
                          [&](const CanvasStep& step) { forwards += step.denoises ? 1 : 0; });
  loop.push(prompt);
  do {
    loop.next_block(denoiser);
  } while (loop.tokens().size() < end && !is_stop(loop.tokens().back()));
  const auto answer = loop.tokens().subspan(prompt.size());
  return {{"tokens", std::vector<std::int32_t>(answer.begin(), answer.end())},
          {"forwards", forwards},
          {"boundaries", state.boundaries},
          {"layer_rows", state.num_layer_rows}};
}

}  // namespace perpend
