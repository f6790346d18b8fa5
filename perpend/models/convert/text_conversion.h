#pragma once

#include <string>
#include <vector>

#include "perpend/io/checkpoint.h"
#include "perpend/io/gguf_metadata.h"
#include "perpend/models/model_config.h"
#include "perpend/models/text_side.h"

namespace perpend {

// The text side of a Hugging Face folder as GGUF metadata: vocabulary, special tokens, chat
// template. Holds the written tokenizer against the source's: throws Unsupported when they read a
// text differently, and adds to `notes` when only special tokens are read differently.
void add_text_metadata(const Checkpoint& source, const ModelConfig& config, GgufMetadata& metadata,
                       std::vector<std::string>& notes);

// The text side of a GGUF file as texts of a Hugging Face folder; checked as above.
struct TokenizerFiles {
  std::string tokenizer_json;
  std::string tokenizer_config_json;
};
TokenizerFiles write_tokenizer_files(const Checkpoint& source, const Tokenizer& tokenizer,
                                     const SpecialTokenIds& ids, std::vector<std::string>& notes);

}  // namespace perpend
