#pragma once

#include <exception>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "perpend/cli/prompt_form.h"
#include "perpend/decode/generate_options.h"
#include "perpend/models/loaded_model.h"

namespace perpend {

// What the lines of a batch say nothing of.
struct BatchDefaults {
  GenerateOptions options;
  PromptForm form;
};

// A request of a batch.
struct BatchLine {
  nlohmann::json id;
  std::vector<std::int32_t> prompt;
  GenerateOptions options;
};

// Reads one object: "prompt" (a text, which takes the form of the defaults, "system" and "raw") or
// "messages" (of {"role", "content"}) or "prompt_ids" (tokens); "id" (a text or an integer,
// `number` where it is missing); max_tokens, temperature, top_k, top_p, min_p, repetition_penalty,
// seed, stop (a text or several); layers (masks, as --layers); of models of diffusion block_size,
// sub_block_size, cache and threshold. Throws IoError that begins with `where` for what is no such
// object, and what the forms throw.
BatchLine read_batch_line(std::string_view line, std::size_t number, const std::string& where,
                          const LoadedModel& model, const BatchDefaults& defaults);

// Calls visit(line, number, where) for each line that is not blank of a file, of standard input for
// "-". What it throws is reported on standard error with the line's place, and the next line goes
// on. Whether none threw. Throws IoError, and InvalidArgument where there is no line.
using BatchLineVisitor =
    std::function<void(std::string_view line, std::size_t number, const std::string& where)>;
bool for_batch_lines(const std::string& file, const BatchLineVisitor& visit);

// Says on standard error what went wrong at a place.
void report_at(const std::string& where, const std::exception& error);

}  // namespace perpend
