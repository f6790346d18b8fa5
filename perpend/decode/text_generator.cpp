#include "perpend/decode/text_generator.h"

#include <algorithm>
#include <chrono>
#include <random>
#include <utility>

#include "perpend/cache/retained_policy.h"
#include "perpend/core/error.h"
#include "perpend/core/range.h"
#include "perpend/decode/autoregressive.h"
#include "perpend/decode/block_diffusion.h"
#include "perpend/decode/stop_matcher.h"
#include "perpend/io/tokenizer/streaming_detokenizer.h"

namespace perpend {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Room for one sequence under these masks and for what is kept of others.
KvStoreConfig store_config(const ModelConfig& config, DType dtype, Device device,
                           std::span<const Mask> masks, std::int64_t chunk,
                           std::int64_t prefix_bytes) {
  KvStoreConfig store;
  store.num_layers = config.num_layers;
  store.num_kv_heads = config.num_kv_heads;
  store.head_dim = config.head_dim;
  store.dtype = dtype;
  store.max_tokens = config.context_length;
  store.device = device;
  const std::int64_t page_bytes = 2 * static_cast<std::int64_t>(size_of(dtype)) * store.page_size *
                                  config.num_kv_heads * config.head_dim;
  store.max_pages = enough_pages(masks, {.max_len = config.context_length,
                                         .step = chunk,
                                         .page_size = store.page_size,
                                         .num_q_heads = config.num_q_heads,
                                         .num_kv_heads = config.num_kv_heads}) +
                    prefix_bytes / page_bytes;
  return store;
}

SipHash secret_hash() {
  std::random_device device;
  const auto word = [&] { return (std::uint64_t{device()} << 32) | device(); };
  const std::uint64_t key0 = word();
  return {key0, word()};
}

// One sequence and what runs it.
struct Generation {
  // `elastic`: null unless only rows that have drifted are to be computed.
  Generation(const LoadedModel& model, Context& context, KvStore& store, PrefixStore& prefixes,
             const SipHash& hash, std::span<const Mask> masks, std::int64_t chunk,
             const ElasticConfig* elastic)
      : sequence(store),
        policy({masks.begin(), masks.end()}, model.config().context_length,
               model.config().num_q_heads, model.config().num_kv_heads) {
    const LanguageModel* network = &model.network();
    if (elastic != nullptr) {
      check(network->layerwise() != nullptr,
            "generate: the cache elastic is not built for this kind of network");
      elastic_model.emplace(*network, *network->layerwise(), *elastic,
                            model.diffusion()->mask_token_id, elastic_state);
      network = &*elastic_model;
    }
    if (chunk % store.config().page_size == 0) {
      PrefixStore* kept = prefixes.max_bytes() > 0 ? &prefixes : nullptr;
      prefill.emplace(
          PromptPrefill::Parts{model.network(), context, sequence, policy, masks, kept, hash},
          chunk);
    }
    loop.emplace(*network, context, sequence, policy, masks, chunk, prefill ? &*prefill : nullptr);
  }

  KvSequence sequence;
  RetainedPolicy policy;
  ElasticState elastic_state;
  std::optional<ElasticModel> elastic_model;
  std::optional<PromptPrefill> prefill;
  std::optional<BlockLoop> loop;
};

}  // namespace

// What the options mean for the model.
class TextGenerator::Request {
 public:
  Request(const LoadedModel& model, const GenerateOptions& options)
      : model_(model), options_(options), chunk_(options.prefill_chunk) {
    check(chunk_ > 0, concat("prefill chunk must be positive (", chunk_, ")"));
    if (!model.diffusion()) return;
    check(options.layer_masks.empty(),
          "generate: masks of layers are not for a model of diffusion, which has its own");
    setting_ = decide(*model.diffusion(), options.diffusion);
    // Of a block all rows see each other, so that they must run together.
    if (setting_->model.attention == DiffusionAttention::kBlock) {
      chunk_ = round_up(chunk_, setting_->model.block_size);
    }
  }

  std::vector<Mask> masks() const {
    const ModelConfig& config = model_.config();
    if (setting_) {
      return std::vector<Mask>(static_cast<std::size_t>(config.num_layers),
                               context_mask(setting_->model));
    }
    if (options_.layer_masks.empty()) return default_masks(config);
    check_eq(options_.layer_masks.size(), static_cast<std::size_t>(config.num_layers),
             "generate: masks and layers differ");
    return options_.layer_masks;
  }
  std::int64_t chunk() const { return chunk_; }
  // Whether tokens that are final keep their keys.
  bool keeps_finished() const { return !setting_ || perpend::keeps_finished(setting_->cache); }
  // null unless rows that have not drifted keep their keys.
  const ElasticConfig* elastic() const {
    const bool used = setting_ && setting_->cache == CanvasCache::kElastic;
    return used ? &options_.diffusion.elastic : nullptr;
  }

  // null without diffusion.
  std::unique_ptr<BlockDiffusion> block_diffusion(std::int64_t prompt_tokens) const {
    if (!setting_) return nullptr;
    const LoadedModel& model = model_;
    const ModelConfig& config = model.config();
    return std::make_unique<BlockDiffusion>(
        *setting_, options_.sampler,
        BlockDiffusion::Answer{
            .prompt_tokens = prompt_tokens,
            .max_tokens = options_.max_tokens,
            .context_length = config.context_length,
            .num_layers = config.num_layers,
            .num_top_logprobs = options_.num_top_logprobs,
            .is_stop = [&model](std::int32_t token) { return model.is_stop_token(token); }},
        options_.diffusion.on_step);
  }

 private:
  const LoadedModel& model_;
  const GenerateOptions& options_;
  std::int64_t chunk_;
  std::optional<DiffusionSetting> setting_;
};

// Keys of the last sequence and of earlier prompts, and what they were made with.
struct TextGenerator::Cache {
  Cache(const KvStoreConfig& config, std::int64_t prefix_bytes, std::int64_t prefill_chunk,
        std::vector<Mask> layer_masks)
      : masks(std::move(layer_masks)),
        chunk(prefill_chunk),
        store(config),
        prefixes(store, prefix_bytes) {}

  std::vector<Mask> masks;
  std::int64_t chunk;
  SipHash hash = secret_hash();
  KvStore store;
  PrefixStore prefixes;
  std::optional<Generation> generation;
};

std::string_view name_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
  }
  bug("name_of: unknown finish reason");
}

TextGenerator::TextGenerator(const LoadedModel& model, Context& context, DType kv_dtype,
                             std::int64_t prefix_bytes)
    : model_(model), context_(context), kv_dtype_(kv_dtype), prefix_bytes_(prefix_bytes) {
  check(prefix_bytes >= 0,
        concat("generate: bytes of the prefix cache must not be negative (", prefix_bytes, ")"));
}

TextGenerator::~TextGenerator() = default;

void TextGenerator::prepare_cache(const std::vector<std::int32_t>& prompt,
                                  const GenerateOptions& options, const Request& request) {
  std::vector<Mask> masks = request.masks();
  const std::int64_t chunk = request.chunk();
  if (cache_ == nullptr || cache_->masks != masks || cache_->chunk != chunk) {
    cache_.reset();
    const KvStoreConfig config =
        store_config(model_.config(), kv_dtype_, context_.device, masks, chunk, prefix_bytes_);
    cache_ = std::make_unique<Cache>(config, prefix_bytes_, chunk, std::move(masks));
  }
  std::optional<Generation>& generation = cache_->generation;
  if (generation && options.reuse_decoded && request.keeps_finished()) {
    const auto known = generation->loop->tokens();
    // The last prompt token always runs again: its logits are what comes next.
    if (known.size() < prompt.size() && std::equal(known.begin(), known.end(), prompt.begin())) {
      generation->loop->push(std::span(prompt).subspan(known.size()));
      return;
    }
  }
  generation.reset();
  cache_->store.pool().reset_peak();
  generation.emplace(model_, context_, cache_->store, cache_->prefixes, cache_->hash, cache_->masks,
                     chunk, request.elastic());
  generation->loop->push(prompt);
}

void TextGenerator::check_request(const std::vector<std::int32_t>& prompt,
                                  const GenerateOptions& options) const {
  const ModelConfig& config = model_.config();
  check(!prompt.empty(), "generate: the prompt is empty");
  check(static_cast<std::int64_t>(prompt.size()) < config.context_length,
        concat("prompt: ", prompt.size(), " tokens do not fit the model's context of ",
               config.context_length, " with room for an answer"));
  check(options.max_tokens > 0,
        concat("generate: max-tokens must be positive (", options.max_tokens, ")"));
  check(options.num_top_logprobs >= 0 && options.num_top_logprobs <= config.vocab_size,
        concat("generate: logprobs must be in [0, ", config.vocab_size, "] (",
               options.num_top_logprobs, ")"));
}

namespace {

// One answer in the making: takes tokens, hands out text, knows when it has ended.
class Completion {
 public:
  Completion(const LoadedModel& model, const GenerateOptions& options,
             const GenerateCallbacks& callbacks, std::int64_t room)
      : model_(model),
        callbacks_(callbacks),
        max_tokens_(std::min(options.max_tokens, room)),
        detokenizer_(model.tokenizer()),
        stop_(options.stop) {}

  // False when the answer has ended, perhaps with one of these tokens, which came together.
  bool push(std::span<const Sample> block) {
    if (result.samples.empty()) num_first_ = block.size();
    return std::all_of(block.begin(), block.end(),
                       [&](const Sample& sample) { return push(sample); });
  }

  void cancel() { end(FinishReason::kCancelled); }

  // Hands out the text that was held back, and measures.
  void finish() {
    if (result.finish_reason != FinishReason::kCancelled) {
      emit(stop_.push(detokenizer_.finish()));
      emit(stop_.finish());
    }
    if (result.samples.empty()) return;
    const double first_seconds = result.time_to_first_token_ms * 1e-3;
    result.prefill_tokens_per_s =
        static_cast<double>(result.prompt_tokens - result.cached_tokens) / first_seconds;
    const std::size_t count = result.samples.size();
    if (count > num_first_) {
      result.decode_tokens_per_s = static_cast<double>(count - num_first_) / decode_seconds_;
    } else if (num_first_ > 1) {
      result.decode_tokens_per_s = static_cast<double>(count) / (first_seconds + decode_seconds_);
    }
  }

  GenerateResult result;

 private:
  bool push(const Sample& sample) {
    if (result.samples.empty()) {
      first_token_ = Clock::now();
      result.time_to_first_token_ms = seconds_since(start_) * 1e3;
    }
    result.samples.push_back(sample);
    if (model_.is_stop_token(sample.chosen.token)) return end(FinishReason::kStop);
    const bool wanted = emit(stop_.push(detokenizer_.push(sample.chosen.token)));
    if (!wanted) return end(FinishReason::kCancelled);
    if (stop_.matched()) return end(FinishReason::kStop);
    const auto count = static_cast<std::int64_t>(result.samples.size());
    return count < max_tokens_ || end(FinishReason::kLength);
  }

  bool emit(const std::string& text) {
    result.text += text;
    return text.empty() || !callbacks_.on_text || callbacks_.on_text(text);
  }
  bool end(FinishReason reason) {
    result.finish_reason = reason;
    if (!result.samples.empty()) decode_seconds_ = seconds_since(first_token_);
    return false;
  }

  const LoadedModel& model_;
  const GenerateCallbacks& callbacks_;
  std::int64_t max_tokens_;
  StreamingDetokenizer detokenizer_;
  StopMatcher stop_;
  Clock::time_point start_ = Clock::now();
  Clock::time_point first_token_;
  double decode_seconds_ = 0;
  std::size_t num_first_ = 0;  // tokens that came with the first
};

// What a prefill did; result.cached_tokens is what the sequence held before.
void count_prefill(const Generation& generation, std::int64_t num_layers, GenerateResult& result) {
  std::int64_t run_apart = result.cached_tokens;
  if (generation.prefill && result.cached_tokens == 0) {
    run_apart = generation.sequence.length();
    result.cached_tokens = generation.prefill->reused_tokens();
    result.prefill_layer_tokens = generation.prefill->layer_tokens();
  }
  result.prefill_layer_tokens += (result.prompt_tokens - run_apart) * num_layers;
}

}  // namespace

GenerateResult TextGenerator::generate(const std::vector<std::int32_t>& prompt,
                                       const GenerateOptions& options,
                                       const GenerateCallbacks& callbacks) {
  check_request(prompt, options);
  const Request request(model_, options);
  const auto prompt_tokens = static_cast<std::int64_t>(prompt.size());
  Completion answer(model_, options, callbacks, model_.config().context_length - prompt_tokens);
  Autoregressive autoregressive(options.sampler, options.num_top_logprobs);
  const std::unique_ptr<BlockDiffusion> diffusion = request.block_diffusion(prompt_tokens);
  Denoiser& denoiser = diffusion ? static_cast<Denoiser&>(*diffusion) : autoregressive;
  try {
    prepare_cache(prompt, options, request);
    Generation& generation = *cache_->generation;
    answer.result.prompt_tokens = prompt_tokens;
    answer.result.cached_tokens = generation.sequence.length();
    const bool prefilled =
        !request.keeps_finished() || generation.loop->prefill([&](std::int64_t done) {
          return !callbacks.on_prefill || callbacks.on_prefill(done, prompt_tokens);
        });
    count_prefill(generation, model_.config().num_layers, answer.result);
    if (!prefilled) answer.cancel();
    for (bool going = prefilled; going;) {
      going = answer.push(generation.loop->next_block(denoiser));
    }
    answer.finish();
  } catch (...) {
    cache_.reset();
    throw;
  }
  GenerateResult& result = answer.result;
  result.num_forwards =
      diffusion ? diffusion->num_forwards() : static_cast<std::int64_t>(result.samples.size());
  result.num_forward_rows = diffusion ? diffusion->num_rows() : autoregressive.num_rows();
  result.elastic_boundaries = cache_->generation->elastic_state.boundaries;
  result.elastic_layer_rows = cache_->generation->elastic_state.num_layer_rows;
  if (request.elastic() != nullptr) {
    result.num_forward_rows = result.elastic_layer_rows / model_.config().num_layers;
  }
  result.kv_bytes = cache_->generation->sequence.held_bytes();
  result.kv_exact_bytes = cache_->generation->sequence.exact_bytes();
  result.kv_peak_bytes = cache_->store.peak_bytes();
  return std::move(result);
}

}  // namespace perpend
