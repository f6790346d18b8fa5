#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "perpend/io/tokenizer/byte_pair_merger.h"
#include "perpend/io/tokenizer/pre_tokenizer.h"

namespace perpend {

struct TokenizerEntry {
  std::string text;      // as the vocabulary spells it
  std::string bytes;     // what it decodes to
  bool special = false;  // a control token: never made from plain text
  bool added = false;    // matched in the text before any word is cut
};

struct StringHash : std::hash<std::string_view> {
  using is_transparent = void;
};

// The parts of a byte-level BPE tokenizer, as both file kinds describe them.
struct TokenizerPipeline {
  static constexpr std::int32_t kNoToken = -1;

  std::string name;
  PreTokenizer pre_tokenizer = PreTokenizer::kGpt2;
  bool normalize_nfc = false;
  std::vector<TokenizerEntry> entries;  // by id; empty text for ids that do not exist
  std::unordered_map<std::string, std::int32_t, StringHash, std::equal_to<>> ids;
  // Some vocabularies lack bytes that valid UTF-8 hardly uses; such bytes are passed over, as the
  // reference does for models without an unknown token.
  std::array<std::int32_t, 256> byte_ids{};
  BytePairMerger merger;
  std::vector<std::int32_t> added;  // ids of added tokens, longest text first
  std::optional<std::int32_t> bos_id;
  std::optional<std::int32_t> eos_id;
  bool add_bos = false;
  bool add_eos = false;

  // Throws IoError for a text used twice.
  void add_entry(std::int32_t id, std::string text, bool special, bool added_token);
  // Fills what follows from the entries: byte ids and the order of added tokens.
  void finish();
  // "left right". Throws IoError for unknown tokens.
  void add_merge(std::string_view left, std::string_view right);
  std::int32_t require_id(std::string_view text) const;
};

}  // namespace perpend
