#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "perpend/io/checkpoint.h"
#include "perpend/models/convert/tensor_plan.h"

namespace perpend {

// Whether a file of that name in a Hugging Face folder belongs to the model: weights, configuration
// or tokenizer.
bool is_model_file(std::string_view name);

// Writes all but the weights into `folder`, which exists. From a GGUF file they are made anew, from
// a folder copied; `changes` are what `config` has and the source has not. Throws Unsupported for
// what such files can not say, IoError with path and reason.
void write_text_files(const Checkpoint& source, const ModelConfig& config, const TensorPlan& plan,
                      const ModelChanges& changes, const std::string& folder,
                      std::vector<std::string>& notes);

}  // namespace perpend
