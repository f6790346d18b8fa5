#include "perpend/models/model_plan.h"

#include <algorithm>
#include <iterator>

#include "perpend/core/error.h"
#include "perpend/mask/block_census.h"
#include "perpend/mask/retention.h"
#include "perpend/models/weights.h"

namespace perpend {
namespace {

constexpr std::int64_t kValueBytes = 2;
constexpr std::int64_t kMostTokens = std::int64_t{1} << 24;
constexpr std::int64_t kMostBatch = 1 << 20;

std::int64_t attention_parameters(const ModelConfig& config) {
  const std::int64_t q_dim = std::int64_t{config.num_q_heads} * config.head_dim;
  const std::int64_t kv_dim = std::int64_t{config.num_kv_heads} * config.head_dim;
  using enum WeightRole;
  std::int64_t biases = 0;
  for (const WeightRole role : {kQuery, kKey, kValue, kAttentionOutput}) {
    if (family_has_bias(config.architecture, role)) biases += weight_shape(config, role).front();
  }
  return config.model_dim * (2 * q_dim + 2 * kv_dim) + biases;
}

std::int64_t linear_parameters(const ModelConfig& config) {
  return config.num_layers *
         (attention_parameters(config) + 3 * std::int64_t{config.model_dim} * config.ffn_dim);
}

LayerPlan plan_layer(const ModelConfig& config, const Mask& mask, const PlanRequest& request) {
  LayerPlan layer{.mask = mask};
  const BlockCensus census = count_blocks(mask, request.num_tokens, request.block_size,
                                          config.num_q_heads, config.num_kv_heads);
  layer.live_blocks = census.live_blocks;
  layer.live_pairs = census.live_pairs;
  layer.computed_pairs = mask == Mask::causal()
                             ? census.live_pairs
                             : census.live_blocks * request.block_size * request.block_size;
  const std::int64_t last = request.num_tokens - 1;
  const Retention retention(mask, request.num_tokens, config.num_q_heads, config.num_kv_heads);
  for (std::int64_t begin = 0; begin < request.num_tokens; begin += request.block_size) {
    const Range keys{begin, std::min(begin + request.block_size, request.num_tokens)};
    if (retention.may_be_seen(keys, last)) ++layer.cached_blocks;
  }
  return layer;
}

WorkPlan work_of(const ModelConfig& config, const ModelPlan& plan,
                 std::span<const LayerPlan> layers, const PlanRequest& request) {
  WorkPlan work;
  double pairs = 0;
  std::int64_t cached_keys = 0;
  for (const LayerPlan& layer : layers) {
    pairs += static_cast<double>(layer.computed_pairs);
    cached_keys += std::min(layer.cached_blocks * request.block_size, request.num_tokens);
  }
  work.kv_bytes = plan.kv_bytes_per_token * cached_keys * request.batch;
  work.attention_flops = 4.0 * config.head_dim * pairs * static_cast<double>(request.batch);
  work.decode_bytes = static_cast<double>(plan.weight_bytes) + static_cast<double>(work.kv_bytes);
  return work;
}

}  // namespace

double ModelPlan::kv_cut() const {
  return 1 - static_cast<double>(planned.kv_bytes) / static_cast<double>(dense.kv_bytes);
}

std::int64_t count_parameters(const ModelConfig& config) {
  const std::int64_t embeddings = config.vocab_size * config.model_dim;
  const std::int64_t norms = (2 * std::int64_t{config.num_layers} + 1) * config.model_dim;
  return linear_parameters(config) + norms + embeddings * (config.tied_embeddings ? 1 : 2);
}

ModelPlan plan_model(const ModelConfig& config, std::span<const Mask> masks,
                     const PlanRequest& request) {
  const auto in_range = [](std::int64_t value, std::int64_t most, std::string_view name) {
    check(value >= 1 && value <= most,
          concat("plan: ", name, ": expected 1 to ", most, ", found ", value));
  };
  in_range(request.num_tokens, kMostTokens, "context");
  in_range(request.batch, kMostBatch, "batch");
  in_range(request.block_size, kMostTokens, "block size");
  check(request.bytes_per_second > 0, "plan: bandwidth: expected a positive number");
  check_eq(static_cast<int>(masks.size()), config.num_layers, "plan: masks and layers differ");
  ModelPlan plan;
  plan.bytes_per_second = request.bytes_per_second;
  plan.num_parameters = count_parameters(config);
  plan.weight_bytes = kValueBytes * plan.num_parameters;
  plan.kv_bytes_per_token = 2 * kValueBytes * config.num_kv_heads * config.head_dim;
  plan.linear_flops = 2.0 * static_cast<double>(linear_parameters(config)) *
                      static_cast<double>(request.num_tokens * request.batch);
  std::vector<LayerPlan> known = {plan_layer(config, Mask::causal(), request)};
  const LayerPlan dense = known.front();
  for (const Mask& mask : masks) {
    auto layer = std::ranges::find(known, mask, &LayerPlan::mask);
    if (layer == known.end()) {
      known.push_back(plan_layer(config, mask, request));
      layer = std::prev(known.end());
    }
    plan.layers.push_back(*layer);
  }
  plan.planned = work_of(config, plan, plan.layers, request);
  const std::vector<LayerPlan> all_dense(masks.size(), dense);
  plan.dense = work_of(config, plan, all_dense, request);
  return plan;
}

}  // namespace perpend
