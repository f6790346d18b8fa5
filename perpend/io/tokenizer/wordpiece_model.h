#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "perpend/io/tokenizer/model.h"
#include "perpend/io/tokenizer/vocabulary.h"

namespace perpend {

struct WordPieceOptions {
  std::int32_t unk_id = 0;
  std::string first_prefix;              // spelled before the first piece; "▁" in GGUF files
  std::string continuing_prefix = "##";  // spelled before all others
  std::size_t max_characters = 100;      // longer words are unknown
  std::size_t max_token_bytes = 0;       // of the longest entry: bounds the search
};

// WordPiece (Schuster and Nakajima 2012): the longest entry that the word begins with, then the
// longest that the rest begins with, and so on; one unknown token when no entry fits.
class WordPieceModel : public Model {
 public:
  WordPieceModel(std::shared_ptr<const Vocabulary> vocabulary, WordPieceOptions options);

  void tokenize(std::string_view word, std::vector<Piece>& tokens) const override;

 private:
  std::optional<Piece> longest_piece(std::string_view rest, bool is_first) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  WordPieceOptions options_;
};

}  // namespace perpend
