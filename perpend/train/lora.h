#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "perpend/models/differentiable_model.h"
#include "perpend/train/optimizer.h"

namespace perpend {

// Low-rank adapters (arXiv:2106.09685): W stays, and alpha / rank * up down is added to it.
struct LoraOptions {
  int rank = 0;
  double alpha = 0.0;
  // Last parts of the names of the matrices that get one: "q_proj", "up_proj", ...
  std::vector<std::string> targets;
};

// The names that targets may have.
std::vector<std::string> lora_targets();

// What a folder of adapters says beside them.
struct AdapterTexts {
  std::string base;                 // the name of the model they belong to
  std::string diffusion_json = {};  // how they make it fill masked tokens, see DiffusionRecipe
  std::vector<std::int32_t> tokens = {};  // whose rows of the embedding are not those of the model
};

// Gives the model's matrices adapters of their type, drawn from `seed`, which change nothing at
// first; returns their tensors under the names that PEFT has for them. All other tensors of the
// model stop requiring gradients. Throws InvalidArgument for a rank below 1 and unknown targets.
std::vector<TrainedTensor> add_lora(DifferentiableModel& model, const LoraOptions& options,
                                    std::uint64_t seed);

// Writes the adapters' tensors (as add_lora() returned them), each in its type, as PEFT does:
// adapter_config.json and adapter_model.safetensors in a folder that appears whole or not at all.
// Adapters that add nothing are left out. How the model ranks is told, too, where its config says
// it.
void write_lora(const std::string& folder, const AdapterTexts& texts, const LoraOptions& options,
                const DifferentiableModel& model, const std::vector<TrainedTensor>& tensors);

// Reads such a folder, adds the adapters to `model` and replaces rows of its embedding. Throws
// IoError naming file and field or tensor for what is malformed or does not fit the model.
void read_lora(const std::string& folder, DifferentiableModel& model);

}  // namespace perpend
