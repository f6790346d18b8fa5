#pragma once

#include <string>
#include <vector>

#include "perpend/io/safetensors.h"

namespace perpend {

// The file `name` (model.safetensors) of a folder or, where it holds an index (`name`.index.json),
// the files that this lists, in the order of their names. Throws IoError for an index that names no
// files, files outside of the folder or tensors that they lack, and as SafetensorsFile does.
std::vector<SafetensorsFile> open_safetensors_shards(const std::string& folder,
                                                     const std::string& name);

}  // namespace perpend
