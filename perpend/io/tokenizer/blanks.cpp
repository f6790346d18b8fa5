#include "perpend/io/tokenizer/blanks.h"

#include "perpend/io/tokenizer/unicode_class.h"
#include "perpend/io/tokenizer/utf8.h"

namespace perpend {

std::size_t leading_blanks(std::string_view text) {
  std::size_t end = 0;
  while (end < text.size()) {
    const Utf8Character character = read_utf8(text.substr(end));
    if (!is_blank(character.code)) break;
    end += character.size;
  }
  return end;
}

std::size_t trailing_blanks(std::string_view text) {
  std::size_t begin = text.size();
  for (std::size_t at = begin; at != 0; begin = at) {
    do --at;
    while (is_utf8_continuation(text[at]));
    if (!is_blank(read_utf8(text.substr(at)).code)) break;
  }
  return begin;
}

}  // namespace perpend
