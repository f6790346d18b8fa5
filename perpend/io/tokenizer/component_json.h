#pragma once

#include <string_view>
#include <utility>

#include "perpend/io/tokenizer/json_fields.h"
#include "perpend/io/tokenizer/tokenizer_pipeline.h"

namespace perpend {

// Each reads one part of a tokenizer.json, whose top-level object is `file`, into `pipeline`. They
// throw IoError for what is malformed and Unsupported for a component that is not built.

void read_normalizers(const JsonFields& file, TokenizerPipeline& pipeline);
void read_pre_tokenizers(const JsonFields& file, TokenizerPipeline& pipeline);
// The vocabulary first: added tokens, model and post-processor refer to it.
void read_vocabulary(const JsonFields& file, TokenizerPipeline& pipeline);
void read_model(const JsonFields& file, TokenizerPipeline& pipeline);
void read_post_processor(const JsonFields& file, TokenizerPipeline& pipeline);
void read_decoder(const JsonFields& file, TokenizerPipeline& pipeline);

// A merge of a BPE `model`: "left right", or since version 0.20 a list of the two. Views into
// `merge`.
using MergeSides = std::pair<std::string_view, std::string_view>;
MergeSides read_merge(const JsonFields& model, const nlohmann::json& merge);

// {"String": ...} or {"Regex": ...} under "pattern".
TextPattern read_pattern(const JsonFields& fields);

[[noreturn]] void unsupported_component(const JsonFields& fields, const char* built);

}  // namespace perpend
