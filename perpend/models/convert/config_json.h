#pragma once

#include <string>

#include "perpend/formats/block_format.h"
#include "perpend/io/checkpoint.h"
#include "perpend/models/model_config.h"
#include "perpend/models/text_side.h"

namespace perpend {

// The text of a config.json for the model of a GGUF file whose weights are to be stored in
// `format`. Throws Unsupported for rotary frequencies that config.json can not name.
std::string write_config_json(const Checkpoint& source, const ModelConfig& config,
                              const SpecialTokenIds& ids, BlockFormat format);

// The text of a folder's config.json with the format of its weights changed, and what `changes`
// touch as `config` has it now.
std::string changed_config_json(const Checkpoint& source, const ModelConfig& config,
                                const ModelChanges& changes, BlockFormat format);

// The text of a generation_config.json; empty when no id is known.
std::string write_generation_config_json(const SpecialTokenIds& ids);

}  // namespace perpend
