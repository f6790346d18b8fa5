#include "perpend/io/tokenizer/word_cache.h"

namespace perpend {

std::span<const Piece> WordCache::tokenize(std::string_view word) {
  const bool is_cached = is_used_ && word.size() <= kMaxWordBytes;
  if (is_cached) {
    const auto found = entries_.find(word);
    if (found != entries_.end()) {
      return std::span(pieces_).subspan(found->second.begin, found->second.size);
    }
  }
  if (!is_cached || entries_.size() == kMaxWords) {
    uncached_.clear();
    model_.tokenize(word, uncached_);
    return uncached_;
  }
  const std::size_t begin = pieces_.size();
  model_.tokenize(word, pieces_);
  const Entry entry{begin, pieces_.size() - begin};
  entries_.emplace(word, entry);
  return std::span(pieces_).subspan(entry.begin, entry.size);
}

}  // namespace perpend
