#pragma once

#include <memory>
#include <optional>
#include <string>

#include "perpend/io/checkpoint.h"
#include "perpend/models/llama.h"
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
  const ModelConfig& model_config() const { return model_->config(); }
  const std::vector<TrainedTensor>& trained() const { return trainer_->optimizer().tensors(); }

 private:
  std::unique_ptr<Llama> make_model();
  // Chooses what is noised, and how, and gives the model a row for the mask token.
  void prepare_diffusion(DiffusionRecipe& recipe);
  std::shared_ptr<const Dataset> open_data() const;
  std::vector<TrainedTensor> choose_trained();
  void write_result() const;

  TrainConfig config_;
  Runtime runtime_;
  std::optional<Checkpoint> source_;
  std::unique_ptr<Llama> model_;
  std::unique_ptr<Trainer> trainer_;
};

}  // namespace perpend
