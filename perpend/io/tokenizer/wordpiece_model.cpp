#include "perpend/io/tokenizer/wordpiece_model.h"

#include <algorithm>
#include <utility>

#include "perpend/io/tokenizer/utf8.h"

namespace perpend {

WordPieceModel::WordPieceModel(std::shared_ptr<const Vocabulary> vocabulary,
                               WordPieceOptions options)
    : vocabulary_(std::move(vocabulary)), options_(std::move(options)) {}

void WordPieceModel::tokenize(std::string_view word, std::vector<Piece>& tokens) const {
  const auto num_characters = static_cast<std::size_t>(std::count_if(
      word.begin(), word.end(), [](char byte) { return !is_utf8_continuation(byte); }));
  const std::size_t begin = tokens.size();
  bool fits = num_characters <= options_.max_characters;
  for (std::size_t at = 0; fits && at < word.size();) {
    const auto piece = longest_piece(word.substr(at), at == 0);
    fits = piece.has_value();
    if (!fits) break;
    tokens.push_back(*piece);
    at += piece->size;
  }
  if (fits) return;
  tokens.resize(begin);
  tokens.push_back({options_.unk_id, word.size()});
}

std::optional<Piece> WordPieceModel::longest_piece(std::string_view rest, bool is_first) const {
  std::string spelled = is_first ? options_.first_prefix : options_.continuing_prefix;
  const std::size_t prefix = spelled.size();
  if (options_.max_token_bytes < prefix) return std::nullopt;
  std::size_t size = std::min(rest.size(), options_.max_token_bytes - prefix);
  while (size < rest.size() && size != 0 && is_utf8_continuation(rest[size])) --size;
  spelled += rest.substr(0, size);
  while (size != 0) {
    if (const auto id = vocabulary_->find(spelled)) return Piece{*id, size};
    do --size;
    while (size != 0 && is_utf8_continuation(rest[size]));
    spelled.resize(prefix + size);
  }
  return std::nullopt;
}

}  // namespace perpend
