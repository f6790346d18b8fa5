#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace perpend {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// A character read from UTF-8: `size` bytes; valid is false for a maximal ill-formed run, which
// stands for one U+FFFD (Unicode 15, section 3.9).
struct Utf8Character {
  char32_t code = 0xFFFD;
  std::size_t size = 1;
  bool valid = false;
  // Ill-formed only because the text ends here.
  bool truncated = false;
};

// The first character of `text`, which must not be empty.
Utf8Character read_utf8(std::string_view text);

// Whether `byte` is inside a character of valid UTF-8, not its first byte.
constexpr bool is_utf8_continuation(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) == 0x80;
}

bool is_valid_utf8(std::string_view text);

// `text` with every ill-formed run replaced by U+FFFD.
std::string valid_utf8(std::string_view text);

void append_utf8(char32_t code, std::string& to);

}  // namespace perpend
