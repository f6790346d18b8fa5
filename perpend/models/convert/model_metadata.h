#pragma once

#include <string>
#include <string_view>

#include "perpend/formats/block_format.h"
#include "perpend/io/gguf_metadata.h"
#include "perpend/models/model_config.h"

namespace perpend {

// general.architecture of such a model: Mistral's are "llama".
std::string gguf_architecture(const ModelConfig& config);

// The general.* and <architecture>.* metadata of a model that is called `name`.
void add_model_metadata(const ModelConfig& config, std::string_view name, GgufMetadata& metadata);

// The metadata that `changes` touch, as `config` has them now.
void set_model_changes(const ModelConfig& config, const ModelChanges& changes,
                       GgufMetadata& metadata);

// What says that most weights are in `format`.
void set_file_type(BlockFormat format, GgufMetadata& metadata);

}  // namespace perpend
