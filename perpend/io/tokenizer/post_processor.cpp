#include "perpend/io/tokenizer/post_processor.h"

#include <algorithm>

#include "perpend/io/tokenizer/byte_alphabet.h"
#include "perpend/io/tokenizer/unicode_class.h"
#include "perpend/io/tokenizer/utf8.h"

namespace perpend {

void count_blanks(std::string_view text, EncodedToken& token) {
  std::size_t num_characters = 0;
  token.leading_blanks = token.trailing_blanks = 0;
  while (!text.empty()) {
    const Utf8Character character = read_utf8(text);
    const bool blank = character.code == character_of_byte(' ') || is_blank(character.code);
    if (blank && token.leading_blanks == num_characters) ++token.leading_blanks;
    token.trailing_blanks = blank ? token.trailing_blanks + 1 : 0;
    ++num_characters;
    text.remove_prefix(character.size);
  }
}

void OffsetTrimmer::trim(std::vector<EncodedToken>& tokens) const {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    EncodedToken& token = tokens[i];
    const bool is_first = i == 0 || token.begin == 0;
    const bool was_put_there = is_first && add_prefix_space && token.leading_blanks == 1;
    if (!was_put_there) token.begin = std::min(token.begin + token.leading_blanks, token.end);
    if (token.end >= token.trailing_blanks) {
      token.end = std::max(token.end - token.trailing_blanks, token.begin);
    }
  }
}

std::vector<EncodedToken> PostProcessor::process(std::vector<EncodedToken> tokens,
                                                 bool add_special) const {
  for (const OffsetTrimmer& trimmer : trimmers) trimmer.trim(tokens);
  std::vector<EncodedToken> out;
  out.reserve(tokens.size() + parts.size());
  for (const Part& part : parts) {
    if (std::holds_alternative<Text>(part)) {
      out.insert(out.end(), tokens.begin(), tokens.end());
    } else if (add_special) {
      out.push_back({.id = std::get<std::int32_t>(part)});
    }
  }
  return out;
}

}  // namespace perpend
