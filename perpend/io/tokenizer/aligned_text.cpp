#include "perpend/io/tokenizer/aligned_text.h"

#include <utility>

#include "perpend/io/tokenizer/utf8.h"

namespace perpend {

AlignedText AlignedText::slice(TextRange range) const {
  if (unchanged_) {
    AlignedText part(text_, range, tracked_);
    part.shift_ += shift_;
    return part;
  }
  AlignedText part(tracked_);
  part.append(*this, range);
  return part;
}

TextRange AlignedText::origin(TextRange range) const {
  if (!unchanged_) {
    return tracked_ ? TextRange{origins_[range.begin].begin, origins_[range.end - 1].end} : range;
  }
  while (is_utf8_continuation(text_[range.begin])) --range.begin;
  while (range.end < text_.size() && is_utf8_continuation(text_[range.end])) ++range.end;
  return {shift_ + range.begin, shift_ + range.end};
}

void AlignedText::append(std::string_view characters, TextRange origin) {
  text_ += characters;
  if (tracked_) origins_.insert(origins_.end(), characters.size(), origin);
}

void AlignedText::append(const AlignedText& from, TextRange range) {
  text_ += from.text().substr(range.begin, range.size());
  if (!tracked_) return;
  for (std::size_t at = range.begin; at < range.end; ++at) {
    origins_.push_back(from.origin({at, at + 1}));
  }
}

void AlignedText::prepend(std::string_view characters) {
  if (empty()) return;
  AlignedText longer(tracked_);
  longer.append(characters, origin({0, 1}));
  longer.append(*this, {0, text_.size()});
  *this = std::move(longer);
}

}  // namespace perpend
