#include "perpend/train/trainer.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include <ATen/ops/zeros.h>

#include "perpend/core/error.h"
#include "perpend/kernels/table.h"
#include "perpend/ops/schedule_cache.h"
#include "perpend/schedule/cost.h"
#include "perpend/train/forward_batch.h"

namespace perpend {
namespace {

std::vector<int> layers_of(const std::vector<WeightedLoss>& losses, int num_layers) {
  std::set<int> layers;
  for (const auto& [loss, weight] : losses) {
    for (const int layer : loss->captured_layers()) {
      check(layer >= 0 && layer < num_layers,
            concat(loss->name(), " loss: layer ", layer, " is not one of ", num_layers));
      layers.insert(layer);
    }
  }
  return {layers.begin(), layers.end()};
}

// Of one row through a matrix: forward, to its input, and to itself if it is trained.
double flops_of_row(const torch::Tensor& matrix) {
  return (matrix.requires_grad() ? 6.0 : 4.0) * static_cast<double>(matrix.numel());
}

bool is_layer_matrix(const NamedParameter& parameter) {
  return parameter.tensor.dim() == 2 &&
         parameter.parts.front().name.find(".layers.") != std::string::npos;
}

// Visible pairs of a batch under one kind of masks, all heads together.
double visible_pairs(const PackedBatch& batch, const std::vector<Mask>& masks,
                     const ModelConfig& config) {
  AttentionShape shape;
  shape.num_q_heads = config.num_q_heads;
  shape.num_kv_heads = config.num_kv_heads;
  for (std::size_t s = 0; s < batch.num_sequences(); ++s) {
    const std::int64_t length = batch.q_indptr[s + 1] - batch.q_indptr[s];
    shape.sequences.push_back({length, length, 0});
  }
  const AttentionSpec spec{DType::kF32, DType::kF32, config.head_dim};
  const Tiling tiling = cpu_kernels().attention.tiling(spec, Sweep::kRows);
  const auto schedule = schedule_cache().get(masks, shape, tiling);
  return static_cast<double>(cost_of(*schedule).live_pairs);
}

}  // namespace

Trainer::Trainer(const DifferentiableModel& model, std::vector<TrainedTensor> trained,
                 std::shared_ptr<const Dataset> data, std::vector<WeightedLoss> losses,
                 std::vector<Mask> layer_masks, const TrainerOptions& options)
    : model_(model),
      batches_(std::move(data), options.batch),
      losses_(std::move(losses)),
      masks_(std::move(layer_masks)),
      options_(options),
      optimizer_(std::move(trained), options.optimizer),
      captured_layers_(layers_of(losses_, model.config().num_layers)) {
  check(!losses_.empty(), "training: there is no loss");
  check(options.accumulation >= 1, "training: accumulation must be at least 1");
  for (const NamedParameter& parameter : model.named_parameters()) {
    if (is_layer_matrix(parameter)) layer_flops_ += flops_of_row(parameter.tensor);
  }
  head_flops_ = flops_of_row(model.head_weight());
}

double Trainer::flops_of(const PackedBatch& batch,
                         const std::vector<BatchMasks>& layer_masks) const {
  const ModelConfig& config = model_.config();
  const auto predicting = std::count_if(batch.weights.begin(), batch.weights.end(),
                                        [](float weight) { return weight > 0; });
  double flops = layer_flops_ * static_cast<double>(batch.num_rows()) +
                 head_flops_ * static_cast<double>(predicting);
  std::map<const std::vector<Mask>*, double> pairs;  // layers share masks
  for (const BatchMasks& masks : layer_masks) {
    const auto [entry, is_new] = pairs.try_emplace(masks.get());
    if (is_new) entry->second = visible_pairs(batch, *masks, config);
    flops += 3 * 4 * entry->second * config.head_dim;
  }
  return flops;
}

void Trainer::backward(const PackedBatch& batch, const std::vector<BatchMasks>& layer_masks,
                       const std::vector<double>& counts, std::vector<torch::Tensor>& sums) const {
  const LossInput input =
      forward_batch(model_, batch, layer_masks,
                    {.captured_layers = captured_layers_, .recompute = options_.recompute});
  torch::Tensor total;
  for (std::size_t i = 0; i < losses_.size(); ++i) {
    const auto& [loss, weight] = losses_[i];
    // A weight of zero must leave no trace, not even zeros added to gradients.
    if (weight == 0 || loss->count(batch) == 0) continue;
    const torch::Tensor mean = loss->sum(input) / counts[i];
    sums[i] = sums[i].defined() ? sums[i] + mean.detach() : mean.detach();
    const torch::Tensor term = mean * weight;
    total = total.defined() ? total + term : term;
  }
  if (total.defined()) total.backward();
}

StepReport Trainer::step() {
  std::vector<PackedBatch> batches;
  std::vector<double> counts(losses_.size());
  StepReport report;
  for (int i = 0; i < options_.accumulation; ++i) {
    batches.push_back(batches_.next(place_.num_steps));
    report.num_tokens += batches.back().num_tokens;
    for (std::size_t loss = 0; loss < losses_.size(); ++loss) {
      counts[loss] += losses_[loss].loss->count(batches.back());
    }
  }
  std::vector<torch::Tensor> sums(losses_.size());
  for (const PackedBatch& batch : batches) {
    const std::vector<BatchMasks> layer_masks = masks_.bind(batch);
    backward(batch, layer_masks, counts, sums);
    optimizer_.accumulate();
    if (options_.count_flops) report.flops += flops_of(batch, layer_masks);
  }
  report.learning_rate = options_.learning_rate.at(place_.num_steps);
  report.grad_norm = optimizer_.step(report.learning_rate);
  place_.num_read = batches_.num_read();
  place_.num_tokens += report.num_tokens;
  report.step = ++place_.num_steps;
  report.loss = at::zeros({}, report.grad_norm.options());
  for (std::size_t i = 0; i < losses_.size(); ++i) {
    if (!sums[i].defined()) continue;
    report.loss = report.loss + sums[i] * losses_[i].weight;
    report.parts.emplace_back(losses_[i].loss->name(), sums[i]);
  }
  return report;
}

void Trainer::restore(const TrainingPlace& place) {
  place_ = place;
  batches_.seek(place.num_read);
  optimizer_.restore(place.num_steps);
}

}  // namespace perpend
