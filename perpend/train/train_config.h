#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "perpend/core/device.h"
#include "perpend/train/diffusion_recipe.h"
#include "perpend/train/lora.h"
#include "perpend/train/opened_model.h"
#include "perpend/train/trainer.h"
#include "perpend/train/training_loop.h"

namespace perpend {

// Scores of the model on data of its own, in the middle of a run.
struct RunEvaluation {
  std::string path;        // as that of DataSource
  std::int64_t every = 0;  // steps; 0: only behind the last
  std::int64_t batch_tokens = 0;
  double stop_at = 2.0;  // see LoopOptions
};

// All that `perpend train` reads; docs/training.md describes the keys.
struct TrainConfig {
  Device device;
  int threads = 0;
  ModelSource model;
  std::optional<LoraOptions> lora;
  bool trains_matrices_only = false;  // those of layers, which are what an adapter can change
  std::optional<DiffusionRecipe> diffusion;
  DataSource data;
  std::optional<RunEvaluation> evaluation;
  TrainerOptions trainer;
  std::vector<WeightedLoss> losses;
  LoopOptions loop;
};

// Throws IoError "<file>:<line>: ..." for what is missing, unknown or out of range.
TrainConfig read_train_config(const std::string& path);

}  // namespace perpend
