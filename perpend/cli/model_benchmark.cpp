#include "perpend/cli/model_benchmark.h"

#include <functional>
#include <memory>
#include <vector>

#include "perpend/cache/retained_policy.h"
#include "perpend/cli/attention_benchmark.h"
#include "perpend/cli/bench_options.h"
#include "perpend/mask/layer_masks.h"
#include "perpend/models/kv_store_config.h"
#include "perpend/models/llama.h"
#include "perpend/models/pass_runner.h"
#include "perpend/models/random_weights.h"
#include "perpend/nn/device_scope.h"
#include "perpend/nn/runtime.h"
#include "perpend/ops/tensor_view_of.h"
#include "perpend/schedule/cost.h"
#include "perpend/schedule/gpu_tiling.h"

namespace perpend {
namespace {

constexpr std::uint64_t kSeed = 1;
constexpr int kWarmUps = 4;  // steps of decoding that are not counted

// Rows of the pass that ends a prompt, the only one whose logits are wanted.
std::int64_t last_chunk(const ModelBenchmark& benchmark) {
  const std::int64_t rest = benchmark.prompt % benchmark.chunk;
  return rest == 0 ? benchmark.chunk : rest;
}

// The sequences of a benchmark and what they attend to.
class Sequences {
 public:
  Sequences(const ModelBenchmark& benchmark, const ModelConfig& config, std::vector<Mask> masks)
      : benchmark_(benchmark), config_(config), masks_(std::move(masks)) {
    KvStoreConfig store = kv_store_config(config, DType::kBF16, length());
    // Address space alone tells how many pages the masks leave.
    store_ = std::make_unique<KvStore>(store);
    restart(1);
    for_each_chunk(0, [](const ForwardInput&) {});
    store.max_pages = (store_->pool().peak_used() + config.num_layers) * benchmark.batch +
                      config.num_layers * ceil_div(benchmark.tokens, store.page_size);
    sequences_.clear();
    store.device = benchmark.device;
    store_ = std::make_unique<KvStore>(store);
  }

  void restart(std::int64_t count) {
    sequences_.clear();
    policies_.clear();
    for (std::int64_t i = 0; i < count; ++i) {
      sequences_.push_back(std::make_unique<KvSequence>(*store_));
      policies_.push_back(std::make_unique<RetainedPolicy>(masks_, length(), config_.num_q_heads,
                                                           config_.num_kv_heads));
    }
  }

  // The passes of one prompt, of tokens 0, 1, 2, ...
  void for_each_chunk(std::size_t index, const std::function<void(const ForwardInput&)>& run) {
    for (std::int64_t begin = 0; begin < benchmark_.prompt; begin += benchmark_.chunk) {
      const std::int64_t count = std::min(benchmark_.chunk, benchmark_.prompt - begin);
      std::vector<std::int32_t> tokens;
      for (std::int64_t i = begin; i < begin + count; ++i) {
        tokens.push_back(static_cast<std::int32_t>(i % config_.vocab_size));
      }
      const KvRows rows = append(index, count);
      const auto last = static_cast<std::int32_t>(count - 1);
      const bool is_last = begin + count == benchmark_.prompt;
      run({tokens, {&rows, 1}, masks_, {&last, is_last ? 1U : 0U}});
      policies_[index]->commit(*sequences_[index], begin + count);
    }
  }

  // One token of every sequence.
  void step(std::span<const std::int32_t> tokens,
            const std::function<void(const ForwardInput&)>& run) {
    std::vector<KvRows> rows;
    std::vector<std::int32_t> logit_rows;
    for (std::size_t i = 0; i < sequences_.size(); ++i) {
      rows.push_back(append(i, 1));
      logit_rows.push_back(static_cast<std::int32_t>(i));
    }
    run({tokens, rows, masks_, logit_rows});
    for (std::size_t i = 0; i < sequences_.size(); ++i) {
      policies_[i]->commit(*sequences_[i], sequences_[i]->length());
    }
  }

  std::size_t count() const { return sequences_.size(); }
  const KvStore& store() const { return *store_; }

  // Multiply-adds of attention in one prefill, two operations each. Only the rows of the last pass
  // attend in the last layer.
  double attention_flops() const {
    const std::int64_t last = last_chunk(benchmark_);
    double sum =
        attention_flops(masks_.back(), {last, benchmark_.prompt, benchmark_.prompt - last});
    double of_layer = 0;
    for (std::size_t i = 0; i + 1 < masks_.size(); ++i) {
      if (i == 0 || masks_[i] != masks_[i - 1]) {
        of_layer = attention_flops(masks_[i], {benchmark_.prompt, benchmark_.prompt, 0});
      }
      sum += of_layer;
    }
    return sum;
  }

 private:
  double attention_flops(const Mask& mask, const SequenceShape& sequence) const {
    const AttentionShape shape{{sequence}, config_.num_q_heads, config_.num_kv_heads};
    const Tiling tiling = gpu_tiling(config_.head_dim, Sweep::kRows);
    return cost_of(compile(mask, shape, tiling)).flops(config_.head_dim);
  }
  std::int64_t length() const { return benchmark_.prompt + benchmark_.tokens + kWarmUps; }

  KvRows append(std::size_t index, std::int64_t count) {
    KvSequence& sequence = *sequences_[index];
    const std::int64_t begin = sequence.length();
    if (!sequence.append(count)) bug("bench model: the store is sized for its sequences");
    return {&sequence, begin, count};
  }

  const ModelBenchmark& benchmark_;
  const ModelConfig& config_;
  std::vector<Mask> masks_;
  std::unique_ptr<KvStore> store_;
  std::vector<std::unique_ptr<KvSequence>> sequences_;
  std::vector<std::unique_ptr<RetainedPolicy>> policies_;
};

ModelConfig checked_config(const ModelBenchmark& benchmark) {
  check(benchmark.prompt >= 1 && benchmark.tokens >= 1 && benchmark.batch >= 1 &&
            benchmark.chunk >= 1 && benchmark.reps >= 1,
        "bench model: --prompt, --tokens, --batch, --chunk and --reps must be at least 1");
  return bench_shape("model", benchmark.shape, benchmark.prompt + benchmark.tokens + kWarmUps,
                     benchmark.layers, benchmark.preset);
}

// Of the products with weights in one prefill. Where no logits are wanted the last layer only makes
// its keys and values.
double product_flops(const Llama& model, const ModelBenchmark& benchmark) {
  using enum WeightRole;
  const double all = static_cast<double>(benchmark.prompt);
  const double last = static_cast<double>(last_chunk(benchmark));
  double flops = 0;
  for (const ModelParameter& parameter : model.parameters()) {
    const WeightRole role = parameter.roles.front();
    if (parameter.tensor.dim() != 2 || role == kEmbedding || role == kHead) continue;
    const bool is_last = parameter.layer + 1 == model.config().num_layers && role != kQuery;
    flops += 2 * static_cast<double>(parameter.tensor.numel()) * (is_last ? last : all);
  }
  return flops;
}

void measure_decoding(const ModelBenchmark& benchmark, Sequences& sequences, PassRunner& runner,
                      const Context& context, ModelTimes& times) {
  std::vector<std::int32_t> next(sequences.count(), 1);
  std::vector<double> steps;
  for (std::int64_t i = 0; i < benchmark.tokens + kWarmUps; ++i) {
    const double ms = ms_of(context, [&] {
      sequences.step(next, [&](const ForwardInput& input) {
        const auto summaries = runner.summarize(input);
        for (std::size_t row = 0; row < next.size(); ++row) next[row] = summaries[row].argmax;
      });
    });
    if (i == 0) times.first_decode_ms = ms;
    if (i >= kWarmUps) steps.push_back(ms);
  }
  times.decode_ms = median(steps);
}

}  // namespace

ModelTimes time_model(const ModelBenchmark& benchmark) {
  const ModelConfig config = checked_config(benchmark);
  const auto masks = benchmark.layers.empty()
                         ? default_masks(config)
                         : parse_layer_masks(benchmark.layers, config.num_layers);
  Runtime runtime(benchmark.device, benchmark.threads);
  Context& context = runtime.context();
  if (benchmark.without_graph) context.captures_decoding = false;
  context.multiplies_few_rows = !benchmark.library_products;
  ModelTimes times;
  times.is_captured = context.captures_decoding;
  times.uses_library_products =
      benchmark.library_products || context.kernels->fused.few_rows_product == nullptr;
  times.rates = measure_device(context);
  const Llama model(config, RandomWeights(config, kSeed), context.type, context);
  Sequences sequences(benchmark, config, masks);
  PassRunner runner(model, context);
  std::vector<double> prefills;
  // Once more than counted: libraries choose their kernels in the first.
  for (int rep = 0; rep <= benchmark.reps; ++rep) {
    sequences.restart(benchmark.batch);
    prefills.push_back(ms_of(context, [&] {
      for (std::size_t i = 0; i < sequences.count(); ++i) {
        sequences.for_each_chunk(i,
                                 [&](const ForwardInput& input) { model.forward(input, context); });
      }
    }));
  }
  prefills.erase(prefills.begin());
  times.prefill_ms = median(prefills);
  const auto batch = static_cast<double>(benchmark.batch);
  const double head_values = static_cast<double>(config.vocab_size) * config.model_dim;
  times.prefill_flops =
      batch * (product_flops(model, benchmark) + 2 * head_values + sequences.attention_flops());
  measure_decoding(benchmark, sequences, runner, context, times);
  times.weight_bytes = static_cast<std::int64_t>(model.num_bytes());
  times.kv_bytes = sequences.store().used_bytes();
  times.kv_peak_bytes = sequences.store().peak_bytes();
  const double looked_up = config.tied_embeddings ? 0.0 : 2 * head_values;  // rows of the embedding
  times.decode_bytes =
      static_cast<double>(times.weight_bytes) - looked_up + static_cast<double>(times.kv_bytes);
  return times;
}

}  // namespace perpend
