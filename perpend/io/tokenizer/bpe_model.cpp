#include "perpend/io/tokenizer/bpe_model.h"

#include <utility>

#include "perpend/io/tokenizer/byte_alphabet.h"
#include "perpend/io/tokenizer/utf8.h"

namespace perpend {

BpeModel::BpeModel(std::shared_ptr<const Vocabulary> vocabulary, BytePairMerger merger,
                   BpeOptions options)
    : vocabulary_(std::move(vocabulary)), merger_(std::move(merger)), options_(std::move(options)) {
  for (unsigned byte = 0; byte < 256; ++byte) {
    const auto value = static_cast<unsigned char>(byte);
    std::string text;
    if (options_.bytes) {
      append_utf8(character_of_byte(value), text);
    } else {
      text = byte_token(value);
    }
    byte_ids_[byte] = vocabulary_->find(text).value_or(kNoToken);
  }
}

void BpeModel::tokenize(std::string_view word, std::vector<Piece>& tokens) const {
  if (options_.ignore_merges) {
    if (const auto id = whole_word(word)) {
      tokens.push_back({*id, word.size()});
      return;
    }
  }
  const std::size_t begin = tokens.size();
  if (options_.bytes) {
    spell_bytes(word, tokens);
  } else {
    spell_characters(word, tokens);
  }
  merger_.merge(tokens, begin);
}

std::optional<std::int32_t> BpeModel::whole_word(std::string_view word) const {
  if (!options_.bytes) return vocabulary_->find(word);
  std::string spelled;
  spelled.reserve(2 * word.size());
  for (const char byte : word) {
    append_utf8(character_of_byte(static_cast<unsigned char>(byte)), spelled);
  }
  return vocabulary_->find(spelled);
}

void BpeModel::spell_bytes(std::string_view word, std::vector<Piece>& tokens) const {
  for (const char byte : word) {
    const std::int32_t id = byte_ids_[static_cast<unsigned char>(byte)];
    if (id != kNoToken) tokens.push_back({id, 1});
  }
}

void BpeModel::spell_characters(std::string_view word, std::vector<Piece>& tokens) const {
  // Written when the next known character comes, so that those that follow can join it.
  std::size_t unk_size = 0;
  const auto write_unk = [&] {
    if (unk_size != 0) tokens.push_back({*options_.unk_id, std::exchange(unk_size, 0)});
  };
  std::string spelled;
  for (std::size_t at = 0; at < word.size();) {
    const std::size_t size = read_utf8(word.substr(at)).size;
    spelled.clear();
    if (at != 0) spelled += options_.continuing_prefix;
    spelled += word.substr(at, size);
    at += size;
    if (at == word.size()) spelled += options_.end_suffix;
    if (const auto id = vocabulary_->find(spelled)) {
      write_unk();
      tokens.push_back({*id, size});
    } else if (!fall_back_to_bytes(spelled, tokens) && options_.unk_id) {
      if (!options_.fuse_unk) write_unk();
      unk_size += size;
    }
  }
  write_unk();
}

bool BpeModel::fall_back_to_bytes(std::string_view spelled, std::vector<Piece>& tokens) const {
  if (!options_.byte_fallback) return false;
  const std::size_t begin = tokens.size();
  for (const char byte : spelled) {
    const std::int32_t id = byte_ids_[static_cast<unsigned char>(byte)];
    if (id == kNoToken) {
      tokens.resize(begin);
      return false;
    }
    tokens.push_back({id, 1});
  }
  return true;
}

}  // namespace perpend
