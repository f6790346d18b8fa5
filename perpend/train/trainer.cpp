#include "perpend/train/trainer.h"

#include <algorithm>
#include <set>
#include <utility>

#include <ATen/ops/zeros.h>

#include "perpend/core/error.h"
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

}  // namespace

Trainer::Trainer(const DifferentiableModel& model, std::vector<TrainedTensor> trained,
                 std::shared_ptr<const Dataset> data, std::vector<WeightedLoss> losses,
                 std::vector<Mask> layer_masks, const TrainerOptions& options)
    : model_(model),
      losses_(std::move(losses)),
      steps_(model, {std::move(data), options.batch}, options.accumulation, losses_,
             std::move(layer_masks)),
      options_(options),
      optimizer_(std::move(trained), options.optimizer),
      captured_layers_(layers_of(losses_, model.config().num_layers)) {
  check(!losses_.empty(), "training: there is no loss");
  for (const NamedParameter& parameter : model.named_parameters()) {
    if (is_layer_matrix(parameter)) layer_flops_ += flops_of_row(parameter.tensor);
  }
  head_flops_ = flops_of_row(model.head_weight());
}

double Trainer::flops_of(const PreparedBatch& batch) const {
  const auto& weights = batch.packed.weights;
  const auto predicting =
      std::count_if(weights.begin(), weights.end(), [](float weight) { return weight > 0; });
  return layer_flops_ * static_cast<double>(batch.packed.num_rows()) +
         head_flops_ * static_cast<double>(predicting) +
         3 * 4 * batch.visible_pairs * model_.config().head_dim;
}

void Trainer::backward(const PreparedBatch& batch, const std::vector<double>& counts,
                       std::vector<torch::Tensor>& sums) const {
  const LossInput input =
      forward_batch(model_, batch.packed, batch.layer_masks,
                    {.captured_layers = captured_layers_, .recompute = options_.recompute});
  torch::Tensor total;
  for (std::size_t i = 0; i < losses_.size(); ++i) {
    const auto& [loss, weight] = losses_[i];
    // A weight of zero must leave no trace, not even zeros added to gradients.
    if (weight == 0 || loss->count(batch.packed) == 0) continue;
    const torch::Tensor mean = loss->sum(input) / counts[i];
    sums[i] = sums[i].defined() ? sums[i] + mean.detach() : mean.detach();
    const torch::Tensor term = mean * weight;
    total = total.defined() ? total + term : term;
  }
  if (total.defined()) total.backward();
}

StepReport Trainer::step() {
  const PreparedStep step = steps_.next(place_);
  StepReport report;
  report.num_tokens = step.num_tokens;
  std::vector<torch::Tensor> sums(losses_.size());
  for (const PreparedBatch& batch : step.batches) {
    backward(batch, step.counts, sums);
    optimizer_.accumulate();
    report.flops += flops_of(batch);
  }
  report.learning_rate = options_.learning_rate.at(place_.num_steps);
  report.grad_norm = optimizer_.step(report.learning_rate);
  place_.num_read = step.num_read;
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
  optimizer_.restore(place.num_steps);
}

}  // namespace perpend
