#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <variant>
#include <vector>

namespace perpend {

// A token and the characters of the input it came from.
struct EncodedToken {
  std::int32_t id = 0;
  std::size_t begin = 0;
  std::size_t end = 0;
  // Blank characters that the token's text begins and ends with.
  std::size_t leading_blanks = 0;
  std::size_t trailing_blanks = 0;
};

// Blanks at both ends of a token's text, the byte alphabet's space among them.
void count_blanks(std::string_view text, EncodedToken& token);

// Leaves blanks out of the offsets, though not one that was put before the text.
struct OffsetTrimmer {
  bool add_prefix_space = true;

  void trim(std::vector<EncodedToken>& tokens) const;
};

// What is done to the tokens of a text in the end.
struct PostProcessor {
  struct Text {};  // the place of the text's own tokens
  using Part = std::variant<Text, std::int32_t>;

  std::vector<OffsetTrimmer> trimmers;
  std::vector<Part> parts{Text{}};

  std::vector<EncodedToken> process(std::vector<EncodedToken> tokens, bool add_special) const;
};

}  // namespace perpend
