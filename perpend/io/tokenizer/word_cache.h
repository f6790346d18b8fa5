#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "perpend/io/tokenizer/model.h"
#include "perpend/io/tokenizer/vocabulary.h"

namespace perpend {

// The tokens of words that one text repeats. Belongs to one encoding, so that threads share
// nothing; short texts, which repeat little, go without.
class WordCache {
 public:
  WordCache(const Model& model, std::size_t text_bytes)
      : model_(model), is_used_(text_bytes >= kMinTextBytes) {}

  // The result holds until the next call.
  std::span<const Piece> tokenize(std::string_view word);

 private:
  static constexpr std::size_t kMinTextBytes = 1024;
  static constexpr std::size_t kMaxWordBytes = 32;
  static constexpr std::size_t kMaxWords = 1 << 16;

  struct Entry {
    std::size_t begin;  // in pieces_
    std::size_t size;
  };

  const Model& model_;
  bool is_used_;
  std::unordered_map<std::string, Entry, StringHash, std::equal_to<>> entries_;
  std::vector<Piece> pieces_;
  std::vector<Piece> uncached_;
};

}  // namespace perpend
