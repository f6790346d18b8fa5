#pragma once

#include <memory>
#include <string>
#include <vector>

#include "perpend/nn/runtime.h"
#include "perpend/train/train_config.h"

namespace perpend {

// A run as a configuration describes it: loads or makes the model, opens the data, trains, and
// writes what was trained: `out`/model, a Hugging Face folder, or `out`/adapter for LoRA.
class TrainingRun {
 public:
  // Throws IoError, InvalidArgument and Unsupported, naming file and field.
  explicit TrainingRun(TrainConfig config);

  // False when `progress` ended it: it can be resumed.
  bool run(LoopProgress progress);

  // Where the result of a finished run is.
  std::string result_path() const;
  const ModelConfig& model_config() const { return model_.llama->config(); }
  const std::vector<TrainedTensor>& trained() const { return trainer_->optimizer().tensors(); }

 private:
  // Chooses what is noised, and how, and gives the model a row for the mask token.
  void prepare_diffusion(DiffusionRecipe& recipe);
  std::vector<TrainedTensor> choose_trained();
  TargetScore evaluate_now() const;
  void write_result() const;

  TrainConfig config_;
  Runtime runtime_;
  OpenedModel model_;
  std::shared_ptr<const Dataset> evaluation_data_;  // null: the run is not evaluated
  std::unique_ptr<Trainer> trainer_;
};

}  // namespace perpend
