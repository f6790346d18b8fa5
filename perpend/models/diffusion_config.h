#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "perpend/io/gguf.h"
#include "perpend/io/gguf_metadata.h"
#include "perpend/models/diffusion.h"

namespace perpend {

// What a model's file says of diffusion: the object "diffusion" of the text of a config.json, or
// <architecture>.diffusion.* of a GGUF file, with the keys attention (required), mask_token_id
// (required), block_size (32), sub_block_size and shift (true); over what published_diffusion() of
// the architecture says, with Fast-dLLM's bd_size and the mask_token_id of a config.json itself.
// Absent for a model that is none. Throws IoError that names `path`, the key and what was expected.
std::optional<DiffusionConfig> parse_diffusion(std::string_view config_json,
                                               const std::string& path,
                                               std::string_view architecture);
std::optional<DiffusionConfig> read_diffusion(const GgufFile& file, const std::string& path,
                                              std::string_view architecture);
// The object alone, as text; `name` begins errors, which are InvalidArgument.
DiffusionConfig parse_diffusion_object(std::string_view object, std::string_view name);

nlohmann::json diffusion_json(const DiffusionConfig& config);
void set_diffusion(const DiffusionConfig& config, std::string_view architecture,
                   GgufMetadata& metadata);

}  // namespace perpend
