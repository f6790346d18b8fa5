#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "perpend/models/differentiable_model.h"
#include "perpend/train/learning_rate.h"
#include "perpend/train/optimizer.h"
#include "perpend/train/step_reader.h"

namespace perpend {

struct TrainerOptions {
  BatchOptions batch;
  int accumulation = 1;  // batches whose gradients make one step
  LearningRate learning_rate;
  Optimizer::Options optimizer;
  bool recompute = false;  // activations, see TrainInput
};

// What one step did. Values lie where the model is until somebody reads them, so that a GPU is not
// waited for at each step.
struct StepReport {
  std::int64_t step = 0;                                     // from 1
  torch::Tensor loss;                                        // scalar: the weighted sum
  std::vector<std::pair<std::string, torch::Tensor>> parts;  // of each loss, before its weight
  torch::Tensor grad_norm;                                   // before clipping
  double learning_rate = 0.0;
  std::int64_t num_tokens = 0;
  // Multiply-adds of the matrices and of visible pairs of attention, forward and backward, two
  // operations each; what is computed twice counts once.
  double flops = 0.0;
};

// Trains tensors of a model, step after step: packs batches, runs the model and its losses forward
// and backward, and moves the tensors. Everything is a function of the arguments: on a CPU two runs
// are equal to the last bit. What the next step reads is prepared while one is computed.
class Trainer {
 public:
  // `trained`: leaves that the model's forward pass reads, or their adapters. `layer_masks`: one
  // for each layer; names in them are labels of the data. Throws InvalidArgument.
  Trainer(const DifferentiableModel& model, std::vector<TrainedTensor> trained,
          std::shared_ptr<const Dataset> data, std::vector<WeightedLoss> losses,
          std::vector<Mask> layer_masks, const TrainerOptions& options);

  StepReport step();

  // Where the run stands, to be saved and restored together with optimizer().state().
  const TrainingPlace& place() const { return place_; }
  const Optimizer& optimizer() const { return optimizer_; }
  void restore(const TrainingPlace& place);

  std::int64_t dataset_size() const { return steps_.dataset_size(); }

 private:
  double flops_of(const PreparedBatch& batch) const;
  // Leaves the gradients of one batch in the tensors and adds its losses to `sums`.
  void backward(const PreparedBatch& batch, const std::vector<double>& counts,
                std::vector<torch::Tensor>& sums) const;

  const DifferentiableModel& model_;
  std::vector<WeightedLoss> losses_;
  StepReader steps_;
  TrainerOptions options_;
  Optimizer optimizer_;
  std::vector<int> captured_layers_;
  double layer_flops_ = 0.0;  // of the layers' matrices, a token, forward and backward
  double head_flops_ = 0.0;   // of the head, a row that predicts
  TrainingPlace place_;
};

}  // namespace perpend
