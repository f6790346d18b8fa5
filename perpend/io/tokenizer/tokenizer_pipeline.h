#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "perpend/io/tokenizer/added_tokens.h"
#include "perpend/io/tokenizer/decoder.h"
#include "perpend/io/tokenizer/model.h"
#include "perpend/io/tokenizer/normalizer.h"
#include "perpend/io/tokenizer/post_processor.h"
#include "perpend/io/tokenizer/pre_tokenizer.h"
#include "perpend/io/tokenizer/vocabulary.h"

namespace perpend {

struct TokenizerEntry {
  std::string text;      // as the vocabulary spells it; empty for an id that does not exist
  bool special = false;  // a control token: never made from plain text
};

// How decoded tokens stand for bytes that are no characters.
enum class ByteSpelling {
  kNone,
  kAlphabet,  // every byte by a character of the byte alphabet
  kTokens,    // a byte outside other tokens by a token <0x0A>
};

// The parts of a tokenizer, whatever file described them, in the order in which text passes them.
struct TokenizerPipeline {
  std::string name;
  AddedTokenMatcher raw_tokens;  // found in the text as it is
  std::vector<Normalizer> normalizers;
  AddedTokenMatcher normalized_tokens;  // found in normalized text
  std::vector<PreTokenizer> pre_tokenizers;
  bool needs_origins = false;      // a pre-tokenizer asks where a word came from
  bool spells_bytes_last = false;  // the last pre-tokenizer is byte_alphabet_pre_tokenizer()
  std::unique_ptr<const Model> model;
  PostProcessor post_processor;
  Decoder decoder;
  ByteSpelling byte_spelling = ByteSpelling::kNone;

  std::vector<TokenizerEntry> entries;                 // by id
  Vocabulary ids;                                      // every token, added ones included
  std::shared_ptr<const Vocabulary> model_vocabulary;  // those the model makes
  // What decoders see of added tokens that normalization changes.
  std::unordered_map<std::int32_t, std::string> normalized_texts;
  std::optional<std::int32_t> bos_id;
  std::optional<std::int32_t> eos_id;

  // Throws IoError for an id or a text used twice.
  void add_entry(std::int32_t id, std::string_view text, bool special);
  // Registers a token that is in entries for matching; after the normalizers are known.
  void add_added_token(const AddedToken& token);
  std::int32_t require_id(std::string_view text) const;
  std::string normalized(std::string_view text) const;
};

}  // namespace perpend
