#include "perpend/cli/diffusion_benchmark.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "perpend/cli/attention_benchmark.h"
#include "perpend/cli/bench_options.h"
#include "perpend/cli/decode_lanes.h"
#include "perpend/core/random.h"
#include "perpend/models/llama.h"
#include "perpend/models/model_plan.h"
#include "perpend/models/random_weights.h"
#include "perpend/nn/runtime.h"

namespace perpend {
namespace {

constexpr std::uint64_t kWeightSeed = 1;
constexpr std::int64_t kWarmUpBlocks = 3;
constexpr std::int64_t kWarmUpTokens = 8;  // of autoregression
// Of Elastic-Cache: the first computes everything, in the next ones graphs are captured.
constexpr std::size_t kUncountedSteps = 16;

ModelConfig checked_config(const DiffusionBenchmark& benchmark) {
  check(
      benchmark.prompt >= 1 && benchmark.tokens >= 1 && benchmark.window >= 1 &&
          benchmark.tracked >= 1 && benchmark.chunk >= 1 && benchmark.sub_block >= 0,
      "bench diffusion: --prompt, --tokens, --fill-window, --tracked and --chunk must be at least "
      "1");
  ModelConfig config =
      bench_shape("diffusion", benchmark.shape, benchmark.prompt + benchmark.tokens);
  check(config.diffusion.has_value(),
        concat("bench diffusion: --shape: ", benchmark.shape, " is no model of diffusion"));
  check(benchmark.prompt >= config.diffusion->block_size,
        concat("bench diffusion: --prompt must be a block of ", config.diffusion->block_size,
               " at least (", benchmark.prompt, ")"));
  // Of random weights any token may be the mask.
  config.diffusion->mask_token_id = static_cast<std::int32_t>(
      std::min<std::int64_t>(config.diffusion->mask_token_id, config.vocab_size - 1));
  return config;
}

// Prompt tokens that are tracked, spread over all of it.
std::vector<std::int32_t> tracked_rows(const DiffusionBenchmark& benchmark) {
  std::vector<std::int32_t> rows;
  const std::int64_t count = std::min(benchmark.tracked, benchmark.prompt);
  for (std::int64_t i = 0; i < count; ++i) {
    rows.push_back(static_cast<std::int32_t>(i * benchmark.prompt / count));
  }
  return rows;
}

// The layer from which a step computes all rows, by chance, so that a share of all layers does:
// where a step does at all, from any layer behind the first on.
std::function<int(int)> random_boundary(double refreshed) {
  return [refreshed, random = Random(7)](int num_layers) mutable {
    if (refreshed >= 1) return 0;
    const double of_such_a_step = num_layers > 1 ? 0.5 : 1.0;
    if (random.next_double() >= refreshed / of_such_a_step) return num_layers;
    const auto behind_first = static_cast<std::uint64_t>(std::max(1, num_layers - 1));
    return num_layers > 1 ? 1 + static_cast<int>(random.next_below(behind_first)) : 0;
  };
}

}  // namespace

std::string_view name_of(PassKind kind) {
  switch (kind) {
    case PassKind::kPrompt:
      return "prompt";
    case PassKind::kToken:
      return "token";
    case PassKind::kBlock:
      return "block";
    case PassKind::kSubBlock:
      return "sub-block";
    case PassKind::kFinished:
      return "finished";
    case PassKind::kCanvas:
      return "canvas";
  }
  bug("name_of: unknown kind of a pass");
}

double PassTimes::median_ms() const { return median(ms); }

class DiffusionTimer::Work {
 public:
  explicit Work(const DiffusionBenchmark& benchmark)
      : benchmark_(benchmark),
        config_(checked_config(benchmark)),
        runtime_(benchmark.device, benchmark.threads),
        rates_(measure_device(runtime_.context())),
        model_(config_, RandomWeights(config_, kWeightSeed), runtime_.context().type,
               runtime_.context()) {
    if (benchmark.without_graph) runtime_.context().captures_decoding = false;
    runtime_.context().multiplies_few_rows = !benchmark.library_products;
  }

  DiffusionSetting setting(const DecodeKind& kind) const {
    DiffusionOptions options{.sub_block_size = benchmark_.sub_block, .cache = kind.cache};
    options.rule = {.kind = UnmaskRule::Kind::kCount, .tokens_per_step = kind.rate};
    if (config_.diffusion->attention == DiffusionAttention::kFull) {
      options.window = benchmark_.window;
    }
    return decide(*config_.diffusion, options);
  }

  DecodeTimes decode(std::int64_t batch, const DecodeKind& kind, std::int64_t most_passes) {
    std::optional<DiffusionSetting> diffusion;
    if (kind.rate > 0) diffusion = setting(kind);
    DecodeLanes lanes(model_, model_, runtime_.context(), batch, lane_sizes(), diffusion);
    const std::int64_t warm_up =
        diffusion ? kWarmUpBlocks * diffusion->model.block_size : kWarmUpTokens;
    // A canvas of full attention is as long as the answer.
    const bool is_full = diffusion && diffusion->is_full();
    if (is_full) {
      lanes.decode(benchmark_.tokens, 2);
    } else {
      lanes.decode(std::min(warm_up, benchmark_.tokens), 0);
    }
    return lanes.decode(benchmark_.tokens, most_passes);
  }

  ElasticTimes decode_elastic(const DecodeKind& kind) {
    const DiffusionSetting diffusion = setting(kind);
    ElasticState state;
    ElasticConfig elastic;
    elastic.replay = {random_boundary(kind.refreshed), tracked_rows(benchmark_),
                      kind.num_measurements};
    const ElasticModel network(model_, model_, elastic, config_.diffusion->mask_token_id, state);
    DecodeLanes lanes(model_, network, runtime_.context(), 1, lane_sizes(), diffusion);
    ElasticTimes times{.all = lanes.decode(benchmark_.tokens, 0)};
    add_steps(state, times);
    return times;
  }

  const DiffusionBenchmark benchmark_;
  const ModelConfig config_;
  Runtime runtime_;
  DeviceRates rates_;
  Llama model_;

 private:
  LaneSizes lane_sizes() const {
    return {.prompt = benchmark_.prompt, .tokens = benchmark_.tokens, .chunk = benchmark_.chunk};
  }

  void add_steps(const ElasticState& state, ElasticTimes& times) const {
    const PassTimes& steps = times.all.passes.back();
    const int layers = config_.num_layers;
    const std::size_t count = state.boundaries.size();
    const std::size_t first_counted =
        std::max<std::size_t>(1, std::min(kUncountedSteps, count / 3));
    std::int64_t whole_layers = 0;
    for (std::size_t step = 0; step < count; ++step) {
      const int boundary = state.boundaries[step];
      whole_layers += layers - boundary;
      if (step < first_counted) continue;
      times.refreshed += (layers - boundary) / static_cast<double>(layers);
      times.step_ms.push_back(steps.ms[step]);
      if (boundary == layers) times.reuse_ms.push_back(steps.ms[step]);
      if (boundary == 0) times.whole_ms.push_back(steps.ms[step]);
    }
    times.refreshed /= static_cast<double>(times.step_ms.size());
    const std::int64_t canvas = benchmark_.prompt + benchmark_.tokens;
    const std::int64_t few_layers = static_cast<std::int64_t>(count) * layers - whole_layers;
    times.rows = static_cast<double>(state.num_layer_rows - whole_layers * canvas) /
                 static_cast<double>(std::max<std::int64_t>(1, few_layers));
  }
};

DiffusionTimer::DiffusionTimer(const DiffusionBenchmark& benchmark)
    : work_(std::make_unique<Work>(benchmark)) {}
DiffusionTimer::~DiffusionTimer() = default;

bool DiffusionTimer::is_captured() const { return work_->runtime_.context().captures_decoding; }
bool DiffusionTimer::has_full_attention() const {
  return work_->config_.diffusion->attention == DiffusionAttention::kFull;
}
bool DiffusionTimer::has_sub_blocks() const {
  const DiffusionSetting setting = work_->setting({.rate = 1, .cache = CanvasCache::kBlock});
  return setting.sub_block_size < setting.model.block_size;
}
int DiffusionTimer::num_layers() const { return work_->config_.num_layers; }
std::int64_t DiffusionTimer::weight_bytes() const {
  return static_cast<std::int64_t>(work_->model_.num_bytes());
}
const DeviceRates& DiffusionTimer::rates() const { return work_->rates_; }

DecodeTimes DiffusionTimer::decode(std::int64_t batch, const DecodeKind& kind,
                                   std::int64_t most_passes) {
  return work_->decode(batch, kind, most_passes);
}
ElasticTimes DiffusionTimer::decode_elastic(const DecodeKind& kind) {
  return work_->decode_elastic(kind);
}

}  // namespace perpend
