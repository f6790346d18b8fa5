#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "perpend/models/model_config.h"

namespace perpend {

// Sizes of published models, for planning without their weights: llama2-7b, llama2-70b, mistral-7b,
// smollm2-135m; or those in a file PATH.json, a model's config.json. Absent for any other name.
// Throws IoError for a file that is missing or no configuration.
std::optional<ModelConfig> named_shape(std::string_view name);

// "llama2-7b, llama2-70b, ..., a config.json"
std::string known_shapes();

}  // namespace perpend
