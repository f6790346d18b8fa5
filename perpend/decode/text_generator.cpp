#include "perpend/decode/text_generator.h"

#include <algorithm>
#include <random>
#include <utility>

#include "perpend/cache/retained_policy.h"
#include "perpend/core/error.h"
#include "perpend/decode/block_loop.h"
#include "perpend/decode/completion.h"
#include "perpend/decode/request_plan.h"
#include "perpend/models/kv_store_config.h"

namespace perpend {
namespace {

// Room for one sequence under these masks and for what is kept of others.
KvStoreConfig store_config(const ModelConfig& config, DType dtype, Device device,
                           std::span<const Mask> masks, std::int64_t chunk,
                           std::int64_t prefix_bytes) {
  KvStoreConfig store = kv_store_config(config, dtype, config.context_length, device);
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

}  // namespace

// Keys of the last sequence and of earlier prompts, and what they were made with.
struct TextGenerator::Cache {
  // One sequence and what runs it.
  struct Generation {
    Generation(const LoadedModel& model, Context& context, Cache& cache, const RequestPlan& plan);
    // What the prefill did; result.cached_tokens is what the sequence held before.
    void count_prefill(std::int64_t num_layers, GenerateResult& result) const;

    KvSequence sequence;
    RetainedPolicy policy;
    ElasticState elastic_state;
    std::optional<ElasticModel> elastic_model;
    std::optional<PromptPrefill> prefill;
    std::optional<BlockLoop> loop;
  };

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

TextGenerator::Cache::Generation::Generation(const LoadedModel& model, Context& context,
                                             Cache& cache, const RequestPlan& plan)
    : sequence(cache.store),
      policy(cache.masks, model.config().context_length, model.config().num_q_heads,
             model.config().num_kv_heads),
      elastic_model(plan.elastic_model(elastic_state)) {
  const LanguageModel& network = elastic_model ? *elastic_model : model.network();
  if (cache.chunk % cache.store.config().page_size == 0) {
    PrefixStore* kept = cache.prefixes.max_bytes() > 0 ? &cache.prefixes : nullptr;
    prefill.emplace(PromptPrefill::Parts{model.network(), context, sequence, policy, cache.masks,
                                         kept, cache.hash},
                    cache.chunk);
  }
  loop.emplace(network, context, sequence, policy, cache.masks, cache.chunk,
               prefill ? &*prefill : nullptr);
}

void TextGenerator::Cache::Generation::count_prefill(std::int64_t num_layers,
                                                     GenerateResult& result) const {
  std::int64_t run_apart = result.cached_tokens;
  if (prefill && result.cached_tokens == 0) {
    run_apart = sequence.length();
    result.cached_tokens = prefill->reused_tokens();
    result.prefill_layer_tokens = prefill->layer_tokens();
  }
  result.prefill_layer_tokens += (result.prompt_tokens - run_apart) * num_layers;
}

TextGenerator::TextGenerator(const LoadedModel& model, Context& context, DType kv_dtype,
                             std::int64_t prefix_bytes)
    : model_(model), context_(context), kv_dtype_(kv_dtype), prefix_bytes_(prefix_bytes) {
  check(prefix_bytes >= 0,
        concat("generate: bytes of the prefix cache must not be negative (", prefix_bytes, ")"));
}

TextGenerator::~TextGenerator() = default;

void TextGenerator::prepare_cache(const std::vector<std::int32_t>& prompt,
                                  const GenerateOptions& options, const RequestPlan& plan) {
  std::vector<Mask> masks = plan.masks();
  const std::int64_t chunk = plan.chunk();
  if (cache_ == nullptr || cache_->masks != masks || cache_->chunk != chunk) {
    cache_.reset();
    const KvStoreConfig config =
        store_config(model_.config(), kv_dtype_, context_.device, masks, chunk, prefix_bytes_);
    cache_ = std::make_unique<Cache>(config, prefix_bytes_, chunk, std::move(masks));
  }
  std::optional<Cache::Generation>& generation = cache_->generation;
  if (generation && options.reuse_decoded && plan.keeps_finished()) {
    const auto known = generation->loop->tokens();
    // The last prompt token always runs again: its logits are what comes next.
    if (known.size() < prompt.size() && std::equal(known.begin(), known.end(), prompt.begin())) {
      generation->loop->push(std::span(prompt).subspan(known.size()));
      return;
    }
  }
  generation.reset();
  cache_->store.pool().reset_peak();
  generation.emplace(model_, context_, *cache_, plan);
  generation->loop->push(prompt);
}

GenerateResult TextGenerator::generate(const std::vector<std::int32_t>& prompt,
                                       const GenerateOptions& options,
                                       const GenerateCallbacks& callbacks) {
  const RequestPlan plan(model_, prompt, options);
  const std::unique_ptr<Denoiser> denoiser = plan.denoiser();
  const auto prompt_tokens = static_cast<std::int64_t>(prompt.size());
  Completion answer(model_, options, callbacks, model_.config().context_length - prompt_tokens);
  try {
    prepare_cache(prompt, options, plan);
    Cache::Generation& generation = *cache_->generation;
    answer.result.prompt_tokens = prompt_tokens;
    answer.result.cached_tokens = generation.sequence.length();
    const bool prefilled =
        !plan.keeps_finished() || generation.loop->prefill([&](std::int64_t done) {
          return !callbacks.on_prefill || callbacks.on_prefill(done, prompt_tokens);
        });
    generation.count_prefill(model_.config().num_layers, answer.result);
    if (!prefilled) answer.cancel();
    for (bool going = prefilled; going;) {
      going = answer.push(generation.loop->next_block(*denoiser));
    }
    answer.finish();
  } catch (...) {
    cache_.reset();
    throw;
  }
  GenerateResult& result = answer.result;
  plan.count_work(*denoiser, cache_->generation->elastic_state, result);
  result.kv_bytes = cache_->generation->sequence.held_bytes();
  result.kv_exact_bytes = cache_->generation->sequence.exact_bytes();
  result.kv_peak_bytes = cache_->store.peak_bytes();
  return std::move(result);
}

}  // namespace perpend
