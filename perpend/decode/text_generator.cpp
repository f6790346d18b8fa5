#include "perpend/decode/text_generator.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "perpend/cache/retained_policy.h"
#include "perpend/core/error.h"
#include "perpend/decode/autoregressive.h"
#include "perpend/decode/stop_matcher.h"
#include "perpend/io/tokenizer/streaming_detokenizer.h"

namespace perpend {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::vector<Mask> masks_of(const GenerateOptions& options, const ModelConfig& config) {
  const auto num_layers = static_cast<std::size_t>(config.num_layers);
  if (options.layer_masks.empty()) return std::vector<Mask>(num_layers, Mask::causal());
  check_eq(options.layer_masks.size(), num_layers, "generate: masks and layers differ");
  return options.layer_masks;
}

KvStoreConfig store_config(const ModelConfig& config, DType dtype, std::int64_t max_tokens) {
  KvStoreConfig store;
  store.num_layers = config.num_layers;
  store.num_kv_heads = config.num_kv_heads;
  store.head_dim = config.head_dim;
  store.dtype = dtype;
  store.max_tokens = max_tokens;
  return store;
}

}  // namespace

// Keys of one sequence and what they were made with.
struct TextGenerator::Cache {
  Cache(const LoadedModel& model, Context& context, DType dtype, std::vector<Mask> layer_masks,
        std::int64_t prefill_chunk)
      : masks(std::move(layer_masks)),
        store(store_config(model.config(), dtype, model.config().context_length)),
        sequence(store),
        policy(masks, model.config().context_length),
        loop(model.network(), context, sequence, policy, masks, prefill_chunk) {}

  std::vector<Mask> masks;
  KvStore store;
  KvSequence sequence;
  RetainedPolicy policy;
  BlockLoop loop;
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

TextGenerator::TextGenerator(const LoadedModel& model, Context& context, DType kv_dtype)
    : model_(model), context_(context), kv_dtype_(kv_dtype) {}

TextGenerator::~TextGenerator() = default;

void TextGenerator::prepare_cache(const std::vector<std::int32_t>& prompt,
                                  const GenerateOptions& options) {
  std::vector<Mask> masks = masks_of(options, model_.config());
  if (cache_ != nullptr) {
    const auto known = cache_->loop.tokens();
    // The last prompt token always runs again: its logits are what comes next.
    const bool continues =
        known.size() < prompt.size() && std::equal(known.begin(), known.end(), prompt.begin());
    if (continues && cache_->masks == masks) {
      cache_->loop.push(std::span(prompt).subspan(known.size()));
      return;
    }
  }
  cache_.reset();
  cache_ =
      std::make_unique<Cache>(model_, context_, kv_dtype_, std::move(masks), options.prefill_chunk);
  cache_->loop.push(prompt);
}

GenerateResult TextGenerator::generate(const std::vector<std::int32_t>& prompt,
                                       const GenerateOptions& options,
                                       const GenerateCallbacks& callbacks) {
  const Clock::time_point start = Clock::now();
  const std::int64_t context_length = model_.config().context_length;
  const auto prompt_tokens = static_cast<std::int64_t>(prompt.size());
  check(prompt_tokens > 0, "generate: the prompt is empty");
  check(prompt_tokens < context_length,
        concat("prompt: ", prompt_tokens, " tokens do not fit the model's context of ",
               context_length, " with room for an answer"));
  check(options.max_tokens > 0,
        concat("generate: max-tokens must be positive (", options.max_tokens, ")"));
  check(options.num_top_logprobs >= 0 && options.num_top_logprobs <= model_.config().vocab_size,
        concat("generate: logprobs must be in [0, ", model_.config().vocab_size, "] (",
               options.num_top_logprobs, ")"));
  Autoregressive denoiser(options.sampler, options.num_top_logprobs);
  StreamingDetokenizer detokenizer(model_.tokenizer());
  StopMatcher stop(options.stop);
  const std::int64_t max_tokens = std::min(options.max_tokens, context_length - prompt_tokens);

  GenerateResult result;
  const auto emit = [&](const std::string& text) {
    result.text += text;
    return text.empty() || !callbacks.on_text || callbacks.on_text(text);
  };
  result.prompt_tokens = prompt_tokens;
  result.finish_reason = FinishReason::kLength;
  try {
    prepare_cache(prompt, options);
    result.cached_tokens = cache_->sequence.length();
    BlockLoop& loop = cache_->loop;
    loop.prefill([&](std::int64_t done) {
      if (callbacks.on_prefill) callbacks.on_prefill(done, prompt_tokens);
    });
    Clock::time_point first_token;
    bool ended = false;
    while (!ended && static_cast<std::int64_t>(result.samples.size()) < max_tokens) {
      for (const Sample& sample : loop.next_block(denoiser)) {
        if (result.samples.empty()) {
          first_token = Clock::now();
          result.time_to_first_token_ms = seconds_since(start) * 1e3;
        }
        result.samples.push_back(sample);
        ended = model_.is_stop_token(sample.chosen.token);
        if (ended) {
          result.finish_reason = FinishReason::kStop;
          break;
        }
        const bool wanted = emit(stop.push(detokenizer.push(sample.chosen.token)));
        ended = stop.matched() || !wanted;
        if (stop.matched()) result.finish_reason = FinishReason::kStop;
        if (!wanted) result.finish_reason = FinishReason::kCancelled;
        if (ended) break;
      }
    }
    const auto later = static_cast<double>(result.samples.size() - 1);
    if (later > 0) result.decode_tokens_per_s = later / seconds_since(first_token);
  } catch (...) {
    cache_.reset();
    throw;
  }
  if (result.finish_reason != FinishReason::kCancelled) {
    emit(stop.push(detokenizer.finish()));
    emit(stop.finish());
  }
  result.prefill_tokens_per_s = static_cast<double>(prompt_tokens - result.cached_tokens) /
                                (result.time_to_first_token_ms * 1e-3);
  result.kv_bytes = cache_->sequence.held_bytes();
  result.kv_peak_bytes = cache_->store.peak_bytes();
  return result;
}

}  // namespace perpend
