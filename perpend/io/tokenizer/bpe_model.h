#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "perpend/io/tokenizer/byte_pair_merger.h"
#include "perpend/io/tokenizer/model.h"
#include "perpend/io/tokenizer/vocabulary.h"

namespace perpend {

struct BpeOptions {
  std::optional<std::int32_t> unk_id;  // absent: unknown characters are passed over
  bool fuse_unk = false;               // one unknown token for neighbouring unknown characters
  bool byte_fallback = false;          // unknown characters become tokens <0x00> ... <0xFF>
  bool ignore_merges = false;          // a word that is a token is left whole
  std::string continuing_prefix;       // spelled before all characters of a word but the first
  std::string end_suffix;              // spelled after the last
  // Words are bytes; the vocabulary spells them in the byte alphabet. Without the options above but
  // ignore_merges.
  bool bytes = false;
};

// Byte-pair encoding of one word, over its characters or its bytes.
class BpeModel : public Model {
 public:
  BpeModel(std::shared_ptr<const Vocabulary> vocabulary, BytePairMerger merger, BpeOptions options);

  void tokenize(std::string_view word, std::vector<Piece>& tokens) const override;

 private:
  std::optional<std::int32_t> whole_word(std::string_view word) const;
  void spell_bytes(std::string_view word, std::vector<Piece>& tokens) const;
  void spell_characters(std::string_view word, std::vector<Piece>& tokens) const;
  bool fall_back_to_bytes(std::string_view spelled, std::vector<Piece>& tokens) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  BytePairMerger merger_;
  BpeOptions options_;
  static constexpr std::int32_t kNoToken = -1;
  // Some vocabularies lack bytes that valid UTF-8 hardly uses; such bytes are passed over.
  std::array<std::int32_t, 256> byte_ids_{};
};

}  // namespace perpend
