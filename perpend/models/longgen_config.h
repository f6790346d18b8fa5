#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "perpend/io/gguf.h"
#include "perpend/io/gguf_metadata.h"
#include "perpend/models/longgen.h"

namespace perpend {

// What a model's file says of LongGen: the object "longgen" of the text of a config.json, or
// <architecture>.longgen.* of a GGUF file. Absent without it. Keys are those of longgen_fields()
// and "variant"; those left out have the values of default_longgen(). Throws IoError that names
// `path`, the key and what was expected, for keys that are not known too.
std::optional<LongGen> parse_longgen(std::string_view config_json, const std::string& path,
                                     int num_layers);
std::optional<LongGen> read_longgen(const GgufFile& file, const std::string& path,
                                    std::string_view architecture, int num_layers);

nlohmann::json longgen_json(const LongGen& longgen);
void set_longgen(const LongGen& longgen, std::string_view architecture, GgufMetadata& metadata);

}  // namespace perpend
