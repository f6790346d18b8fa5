#pragma once

#include <string>
#include <string_view>

#include "perpend/models/model_config.h"

namespace perpend {

// Sizes and constants that the text of a config.json names; `path` begins errors. Throws IoError
// and Unsupported that name the key. Whether they fit together is the caller's to check.
ModelConfig read_hugging_face_config(std::string_view text, const std::string& path);

}  // namespace perpend
