#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perpend/io/gguf_metadata.h"
#include "perpend/io/tokenizer/tokenizer.h"

namespace perpend {

// A tokenizer as the tokenizer.ggml.* metadata of a GGUF file describe it, with its own storage.
struct GgufVocabulary {
  std::string model;                      // "gpt2" or "llama"
  std::string pre;                        // gpt2
  std::vector<std::string> tokens;        // by id
  std::vector<std::int32_t> token_types;  // GgufTokenType, one a token
  std::vector<float> scores;              // llama: one a token
  std::vector<std::string> merges;        // gpt2: "left right", best first
  std::optional<std::int32_t> bos_id;
  std::optional<std::int32_t> eos_id;
  std::optional<std::int32_t> unk_id;
  std::optional<std::int32_t> pad_id;
  bool add_bos = false;
  bool add_eos = false;
  std::optional<bool> add_space_prefix;  // llama
  // No metadata: the source puts no blank before a text that begins with one, GGUF always.
  bool doubles_first_blank = false;

  // Adds unused tokens until there are `count`: a model may have more rows than its tokenizer ids.
  void pad_to(std::size_t count);
  // The tokenizer that a reader of the file makes of it. Throws as Tokenizer does.
  Tokenizer tokenizer(std::string name) const;
  void add_to(GgufMetadata& metadata) const;
};

// Whether a token stands only where ids have a gap, as pad_to() leaves them.
bool is_gap_token(std::string_view text, std::size_t id);

// The vocabulary of a tokenizer.json, whose path `name` begins every error and of which `tokenizer`
// was made; its bos and eos ids are taken over. Throws Unsupported for what GGUF has no word for:
// a model that is no byte-level or byte-fallback BPE, normalizers and pre-tokenizers without a
// name, merges that no scores give.
GgufVocabulary read_gguf_vocabulary(std::string_view json_text, const std::string& name,
                                    const Tokenizer& tokenizer);

}  // namespace perpend
