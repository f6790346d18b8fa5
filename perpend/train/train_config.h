#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "perpend/core/device.h"
#include "perpend/models/model_config.h"
#include "perpend/train/diffusion_recipe.h"
#include "perpend/train/lora.h"
#include "perpend/train/trainer.h"
#include "perpend/train/training_loop.h"

namespace perpend {

// Where the weights come from.
struct ModelSource {
  std::string path;         // a .gguf file or a Hugging Face folder; empty: random weights
  std::string config_json;  // of random weights: the text of their config.json
  std::string dtype = "f32";
  std::string layers;  // masks of layers, see parse_layer_masks(); empty: the model's own
  ModelChanges changes;
};

struct DataSource {
  std::string path;               // a folder of sequences (sequence_folder.h) or a .jsonl file
  std::int64_t chunk_tokens = 0;  // sequences are joined and cut to this length; 0: as they are
};

// All that `perpend train` reads; docs/training.md describes the keys.
struct TrainConfig {
  Device device;
  int threads = 0;
  ModelSource model;
  std::optional<LoraOptions> lora;
  std::optional<DiffusionRecipe> diffusion;
  DataSource data;
  TrainerOptions trainer;
  std::vector<WeightedLoss> losses;
  LoopOptions loop;
};

// Throws IoError "<file>:<line>: ..." for what is missing, unknown or out of range.
TrainConfig read_train_config(const std::string& path);

}  // namespace perpend
