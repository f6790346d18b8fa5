#pragma once

#include <optional>
#include <string>

#include "perpend/formats/block_format.h"
#include "perpend/io/checkpoint.h"
#include "perpend/models/differentiable_model.h"

namespace perpend {

// The format of files that holds the tensor's values as they are. Throws Unsupported where none
// does.
BlockFormat float_format_of(const torch::Tensor& tensor);

// What stands in a Hugging Face folder beside the weights.
struct ModelTexts {
  const Checkpoint* source = nullptr;  // tokenizer and config.json are its; null: none
  std::string config_json;             // without a source
  std::string diffusion_json = {};     // object of config.json: how it fills in masked tokens
};

// Writes the model's weights, each in its type, as a Hugging Face folder that appears whole or not
// at all; files of a model that is there are replaced. Throws IoError with path and reason and
// Unsupported for a source whose text side such a folder can not hold.
void write_model_folder(const std::string& folder, const DifferentiableModel& model,
                        const ModelTexts& texts);

}  // namespace perpend
