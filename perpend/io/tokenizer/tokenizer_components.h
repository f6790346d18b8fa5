#pragma once

#include <vector>

#include <nlohmann/json.hpp>

#include "perpend/io/tokenizer/gguf_pre_tokenizer.h"
#include "perpend/io/tokenizer/json_fields.h"

namespace perpend {

// Parts of a tokenizer.json, each null or {"type": ...}.
struct TokenizerComponents {
  nlohmann::json normalizer;
  nlohmann::json pre_tokenizer;
  nlohmann::json decoder;
};

// What a byte-level vocabulary (tokenizer.ggml.model "gpt2") does with text.
TokenizerComponents byte_level_components(const GgufPreTokenizer& kind);

// What a SentencePiece vocabulary (tokenizer.ggml.model "llama") does.
TokenizerComponents sentence_piece_components(bool add_space_prefix);

// The other spellings of the same for plain text, by a Metaspace pre-tokenizer. Behind a special
// token "first" puts no space.
std::vector<TokenizerComponents> metaspace_components(bool add_space_prefix);

// Whether the tokenizer.json `file` has these normalizers and pre-tokenizers, but for fields that
// concern offsets alone.
bool has_components(const JsonFields& file, const TokenizerComponents& components);

}  // namespace perpend
