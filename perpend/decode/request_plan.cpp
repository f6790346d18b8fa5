#include "perpend/decode/request_plan.h"

#include <algorithm>

#include "perpend/core/error.h"
#include "perpend/core/range.h"
#include "perpend/decode/autoregressive.h"
#include "perpend/decode/block_diffusion.h"

namespace perpend {

RequestPlan::RequestPlan(const LoadedModel& model, std::span<const std::int32_t> prompt,
                         const GenerateOptions& options)
    : model_(model), prompt_(prompt), options_(options), chunk_(options.prefill_chunk) {
  check_prompt();
  const ModelConfig& config = model.config();
  check(options.max_tokens > 0,
        concat("generate: max-tokens must be positive (", options.max_tokens, ")"));
  check(options.num_top_logprobs >= 0 && options.num_top_logprobs <= config.vocab_size,
        concat("generate: logprobs must be in [0, ", config.vocab_size, "] (",
               options.num_top_logprobs, ")"));
  check(chunk_ > 0, concat("prefill chunk must be positive (", chunk_, ")"));
  check_options(options.sampler);
  if (!model.diffusion()) {
    check(options.layer_masks.empty() ||
              options.layer_masks.size() == static_cast<std::size_t>(config.num_layers),
          concat("generate: masks and layers differ (", options.layer_masks.size(), " vs ",
                 config.num_layers, ")"));
    return;
  }
  check(options.layer_masks.empty(),
        "generate: masks of layers are not for a model of diffusion, which has its own");
  setting_ = decide(*model.diffusion(), options.diffusion);
  check(setting_->model.block_size <= config.context_length,
        concat("diffusion: block size ", setting_->model.block_size,
               " is beyond the model's context of ", config.context_length));
  // Of a block all rows see each other, so that they must run together.
  if (setting_->model.attention == DiffusionAttention::kBlock) {
    chunk_ = round_up(chunk_, setting_->model.block_size);
  }
  if (is_elastic() && model.network().layerwise() == nullptr) {
    throw Unsupported("generate: the cache elastic is not built for this kind of network");
  }
}

void RequestPlan::check_prompt() const {
  const ModelConfig& config = model_.config();
  check(!prompt_.empty(), "generate: the prompt is empty");
  check(prompt_tokens() < config.context_length,
        concat("prompt: ", prompt_tokens(), " tokens do not fit the model's context of ",
               config.context_length, " with room for an answer"));
  for (const std::int32_t token : prompt_) {
    check(token >= 0 && token < config.vocab_size,
          concat("prompt: token id ", token, " is outside the vocabulary of ", config.vocab_size));
  }
}

std::vector<Mask> RequestPlan::masks() const {
  const ModelConfig& config = model_.config();
  if (setting_) {
    return std::vector<Mask>(static_cast<std::size_t>(config.num_layers),
                             context_mask(setting_->model));
  }
  return options_.layer_masks.empty() ? default_masks(config) : options_.layer_masks;
}

std::int64_t RequestPlan::max_length() const {
  const std::int64_t room = model_.config().context_length - prompt_tokens();
  const std::int64_t length = prompt_tokens() + std::min(options_.max_tokens, room);
  if (!setting_ || setting_->is_full()) return length;
  // The open block may end behind the answer.
  return std::min(length + setting_->model.block_size, model_.config().context_length);
}

std::optional<ElasticModel> RequestPlan::elastic_model(ElasticState& state) const {
  if (!is_elastic()) return std::nullopt;
  const LanguageModel& network = model_.network();
  return std::optional<ElasticModel>(std::in_place, network, *network.layerwise(),
                                     options_.diffusion.elastic, setting_->model.mask_token_id,
                                     state);
}

std::unique_ptr<Denoiser> RequestPlan::denoiser() const {
  if (!setting_) {
    return std::make_unique<Autoregressive>(options_.sampler, options_.num_top_logprobs);
  }
  const LoadedModel& model = model_;
  const ModelConfig& config = model.config();
  return std::make_unique<BlockDiffusion>(
      *setting_, options_.sampler,
      BlockDiffusion::Answer{
          .prompt_tokens = prompt_tokens(),
          .max_tokens = options_.max_tokens,
          .context_length = config.context_length,
          .num_layers = config.num_layers,
          .num_top_logprobs = options_.num_top_logprobs,
          .is_stop = [&model](std::int32_t token) { return model.is_stop_token(token); }},
      options_.diffusion.on_step);
}

void RequestPlan::count_work(const Denoiser& denoiser, const ElasticState& elastic,
                             GenerateResult& result) const {
  result.num_forwards = denoiser.num_forwards();
  result.num_forward_rows = denoiser.num_rows();
  result.elastic_boundaries = elastic.boundaries;
  result.elastic_layer_rows = elastic.num_layer_rows;
  if (is_elastic()) {
    result.num_forward_rows = elastic.num_layer_rows / model_.config().num_layers;
  }
}

}  // namespace perpend
