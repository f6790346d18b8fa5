#pragma once

#include <cstddef>
#include <string>

#include "perpend/io/tokenizer/aligned_text.h"
#include "perpend/io/tokenizer/utf8.h"

namespace perpend {

// Writes a new version of a text from left to right; the characters written take over the origins
// of those they stand for. Nothing changes before finish().
class TextRewriter {
 public:
  explicit TextRewriter(AlignedText& text) : text_(text), out_(AlignedText::empty_like(text)) {}

  bool at_end() const { return at_ == text_.text().size(); }
  // The next character of the old version; not at the end.
  char32_t peek() const { return read_utf8(text_.text().substr(at_)).code; }

  // Writes `c` for the next character, or, at the end, for the last one.
  void replace(char32_t c) {
    if (at_end()) return insert(c);
    const TextRange old = next();
    write(c, text_.origin(old));
    at_ = old.end;
  }
  // Writes `c` as if it came with the character before.
  void insert(char32_t c) { write(c, at_ == 0 ? TextRange{} : text_.origin({at_ - 1, at_})); }
  // Leaves out the next characters.
  void skip(std::size_t count = 1) {
    for (; count != 0 && !at_end(); --count) at_ = next().end;
  }
  void finish() { text_ = std::move(out_); }

 private:
  TextRange next() const { return {at_, at_ + read_utf8(text_.text().substr(at_)).size}; }
  void write(char32_t c, TextRange origin) {
    utf8_.clear();
    append_utf8(c, utf8_);
    out_.append(utf8_, origin);
  }

  AlignedText& text_;
  AlignedText out_;
  std::string utf8_;
  std::size_t at_ = 0;
};

}  // namespace perpend
