#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "perpend/decode/text_generator.h"

namespace perpend {

// One line for people: tokens, speeds, memory.
std::string report_line(const GenerateResult& result);

// The fields of `generate --json` but the seed.
nlohmann::json to_json(const GenerateResult& result);

// Of each token id, text, log-probability and the alternatives that were asked for.
nlohmann::json logprobs_of(const GenerateResult& result, const Tokenizer& tokenizer);

// "1.5 MiB"
std::string bytes_text(std::int64_t num_bytes);

}  // namespace perpend
