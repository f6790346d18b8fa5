#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "perpend/io/tokenizer/tokenizer.h"

namespace perpend {

// A SentencePiece tokenizer.model (arXiv:1808.06226): its ModelProto, in the wire format of
// protocol buffers. Pieces are joined by score, as in GGUF files of the Llama family.
class SentencePieceModel {
 public:
  // `name` (the file's path) begins every error. Throws IoError for bytes that are no such message,
  // and Unsupported for a model that is no BPE and for text that is normalized before it is cut.
  SentencePieceModel(std::span<const std::byte> bytes, std::string name);

  // Makes `text` a token of its own: one of the model's, or the next after them. Throws IoError for
  // an id that leaves a gap.
  void set_token(std::int32_t id, const std::string& text, bool special);
  std::int32_t num_tokens() const { return static_cast<std::int32_t>(pieces_.size()); }

  // Throws as Tokenizer's constructor does.
  Tokenizer tokenizer(bool add_bos, bool add_eos) const;

 private:
  class Reader;

  void read_piece(std::span<const std::byte> message);
  void read_trainer(std::span<const std::byte> message);
  void read_normalizer(std::span<const std::byte> message);

  std::string name_;
  std::vector<std::string> pieces_;
  std::vector<float> scores_;
  std::vector<std::int32_t> types_;  // GgufTokenType, whose numbers are SentencePiece's
  std::int64_t unk_id_ = 0;
  std::int64_t bos_id_ = 1;
  std::int64_t eos_id_ = 2;
  bool is_bpe_ = false;
  bool add_space_prefix_ = true;
  bool removes_blanks_ = true;  // unless it says that it does not
};

}  // namespace perpend
