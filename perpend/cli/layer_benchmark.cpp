#include "perpend/cli/layer_benchmark.h"

#include <algorithm>
#include <memory>
#include <numeric>

#include "perpend/cli/attention_benchmark.h"
#include "perpend/cli/bench_options.h"
#include "perpend/cli/device_rates.h"
#include "perpend/mask/layer_masks.h"
#include "perpend/models/llama.h"
#include "perpend/models/random_weights.h"
#include "perpend/nn/device_scope.h"
#include "perpend/nn/torch_threads.h"
#include "perpend/ops/tensor_view_of.h"
#include "perpend/schedule/cost.h"
#include "perpend/schedule/gpu_tiling.h"

namespace perpend {
namespace {

constexpr int kLayerWarmUps = 3;

ModelConfig whole_config(const LayerBenchmark& benchmark) {
  check(benchmark.tokens >= 1 && benchmark.reps >= 1,
        "bench train-layer: --tokens and --reps must be at least 1");
  return bench_shape("train-layer", benchmark.shape, benchmark.tokens, benchmark.layers,
                     benchmark.preset);
}

// A model of one layer, which a mask is given at each pass.
class OneLayer {
 public:
  OneLayer(ModelConfig config, const LayerBenchmark& benchmark, Context& context)
      : benchmark_(benchmark),
        context_(context),
        config_(with_one_layer(std::move(config))),
        model_(config_, RandomWeights(config_, 1), context.type, context) {
    for (const NamedParameter& parameter : model_.named_parameters()) {
      const bool is_of_layer = parameter.parts.front().name.find(".layers.") != std::string::npos;
      weights_.push_back(parameter.tensor);
      weights_.back().requires_grad_(true);
      if (is_of_layer && parameter.tensor.dim() == 2) num_values_ += parameter.tensor.numel();
    }
    input_.tokens = torch::arange(benchmark.tokens, torch::kInt32).remainder(config_.vocab_size);
    input_.positions = torch::arange(benchmark.tokens, torch::kInt32);
    input_.q_indptr = torch::tensor({std::int64_t{0}, benchmark.tokens}, torch::kInt32);
    input_.recompute = benchmark.recompute;
  }

  LayerTime measure(const Mask& mask, int num_layers) {
    input_.layer_masks = {std::make_shared<const std::vector<Mask>>(std::vector<Mask>{mask})};
    LayerTime time{.mask = mask, .num_layers = num_layers, .ms = {}};
    const auto tokens = static_cast<double>(benchmark_.tokens);
    time.product_flops = 3 * 2 * static_cast<double>(num_values_) * tokens;
    time.attention_flops = 3.5 * forward_flops(mask);
    for (int rep = -kLayerWarmUps; rep < benchmark_.reps; ++rep) {
      const double ms = pass_ms();
      if (rep >= 0) time.ms.push_back(ms);
    }
    return time;
  }

 private:
  static ModelConfig with_one_layer(ModelConfig config) {
    config.num_layers = 1;
    config.longgen.reset();
    return config;
  }

  double forward_flops(const Mask& mask) const {
    const AttentionShape shape{
        {{benchmark_.tokens, benchmark_.tokens, 0}}, config_.num_q_heads, config_.num_kv_heads};
    const Tiling tiling = gpu_tiling(config_.head_dim, Sweep::kRows);
    return cost_of(compile(mask, shape, tiling)).flops(config_.head_dim);
  }

  double pass_ms() {
    for (torch::Tensor& weight : weights_) weight.mutable_grad() = torch::Tensor();
    return ms_of(context_, [&] {
      const torch::Tensor hidden = model_.train_forward(input_).hidden;
      hidden.backward(torch::ones_like(hidden));
    });
  }

  const LayerBenchmark& benchmark_;
  Context& context_;
  ModelConfig config_;
  Llama model_;
  TrainInput input_;
  std::vector<torch::Tensor> weights_;
  std::int64_t num_values_ = 0;  // of the layer's matrices
};

}  // namespace

double LayerTime::median_ms() const { return median(ms); }

double LayerTimes::composed_ms() const {
  return std::accumulate(kinds.begin(), kinds.end(), 0.0, [](double sum, const LayerTime& kind) {
    return sum + kind.num_layers * kind.median_ms();
  });
}

double LayerTimes::composed_flops() const {
  return std::accumulate(kinds.begin(), kinds.end(), 0.0, [](double sum, const LayerTime& kind) {
    return sum + kind.num_layers * kind.flops();
  });
}

LayerTimes time_layers(const LayerBenchmark& benchmark) {
  const ModelConfig config = whole_config(benchmark);
  const std::vector<Mask> masks = benchmark.layers.empty()
                                      ? default_masks(config)
                                      : parse_layer_masks(benchmark.layers, config.num_layers);
  Runtime runtime(benchmark.device, benchmark.threads);
  const DeviceScope scope(runtime.context());
  lend_threads_to_torch(runtime);
  OneLayer layer(config, benchmark, runtime.context());
  LayerTimes times;
  times.causal = layer.measure(Mask::causal(), config.num_layers);
  for (const Mask& mask : masks) {
    const auto found = std::find_if(times.kinds.begin(), times.kinds.end(),
                                    [&](const LayerTime& kind) { return kind.mask == mask; });
    if (found != times.kinds.end()) {
      ++found->num_layers;
    } else if (mask == Mask::causal()) {
      times.kinds.push_back(times.causal);
      times.kinds.back().num_layers = 1;
    } else {
      times.kinds.push_back(layer.measure(mask, 1));
    }
  }
  return times;
}

}  // namespace perpend
