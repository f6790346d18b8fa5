#include "perpend/io/tokenizer/text_pattern.h"

#include <utility>

#include "perpend/io/tokenizer/unicode_class.h"
#include "perpend/io/tokenizer/utf8.h"

namespace perpend {

TextPattern literal_pattern(std::string literal) {
  return [literal = std::move(literal)](std::string_view text, std::vector<TextRange>& matches) {
    if (literal.empty()) return;
    for (std::size_t at = text.find(literal); at != std::string_view::npos;
         at = text.find(literal, at + literal.size())) {
      matches.push_back({at, at + literal.size()});
    }
  };
}

TextPattern character_pattern(bool (*is_wanted)(char32_t)) {
  return [is_wanted](std::string_view text, std::vector<TextRange>& matches) {
    for (std::size_t at = 0; at < text.size();) {
      const Utf8Character character = read_utf8(text.substr(at));
      if (is_wanted(character.code)) matches.push_back({at, at + character.size});
      at += character.size;
    }
  };
}

TextPattern word_or_sign_pattern() {
  return [](std::string_view text, std::vector<TextRange>& matches) {
    bool last_is_word = false;
    bool in_run = false;
    for (std::size_t at = 0; at < text.size();) {
      const Utf8Character character = read_utf8(text.substr(at));
      const bool is_word = is_word_character(character.code);
      const bool blank = !is_word && is_blank(character.code);
      if (!blank && in_run && is_word == last_is_word) {
        matches.back().end = at + character.size;
      } else if (!blank) {
        matches.push_back({at, at + character.size});
      }
      in_run = !blank;
      last_is_word = is_word;
      at += character.size;
    }
  };
}

}  // namespace perpend
