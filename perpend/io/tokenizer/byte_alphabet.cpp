#include "perpend/io/tokenizer/byte_alphabet.h"

#include <array>

#include "perpend/io/tokenizer/utf8.h"

namespace perpend {
namespace {

constexpr bool is_visible(unsigned byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr std::array<char32_t, 256> kCharacters = [] {
  std::array<char32_t, 256> table{};
  char32_t next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) table[byte] = is_visible(byte) ? byte : next++;
  return table;
}();

constexpr std::array<int, 0x144> kBytes = [] {
  std::array<int, 0x144> table{};
  for (int& byte : table) byte = -1;
  for (unsigned byte = 0; byte < 256; ++byte) table[kCharacters[byte]] = static_cast<int>(byte);
  return table;
}();

constexpr std::string_view kHexDigits = "0123456789ABCDEF";

std::optional<unsigned> hex_value(char digit) {
  const char upper = digit >= 'a' && digit <= 'f' ? static_cast<char>(digit - 0x20) : digit;
  const std::size_t value = kHexDigits.find(upper);
  return value == std::string_view::npos ? std::nullopt
                                         : std::optional(static_cast<unsigned>(value));
}

}  // namespace

char32_t character_of_byte(unsigned char byte) { return kCharacters[byte]; }

std::optional<std::string> bytes_of_entry(std::string_view entry) {
  std::string bytes;
  while (!entry.empty()) {
    const Utf8Character character = read_utf8(entry);
    if (!character.valid || character.code >= kBytes.size() || kBytes[character.code] < 0) {
      return std::nullopt;
    }
    bytes += static_cast<char>(kBytes[character.code]);
    entry.remove_prefix(character.size);
  }
  return bytes;
}

std::string byte_token(unsigned char byte) {
  return {'<', '0', 'x', kHexDigits[byte / 16], kHexDigits[byte % 16], '>'};
}

std::optional<unsigned char> byte_of_token(std::string_view entry) {
  if (entry.size() != 6 || !entry.starts_with("<0x") || entry[5] != '>') return std::nullopt;
  const auto high = hex_value(entry[3]);
  const auto low = hex_value(entry[4]);
  if (!high || !low) return std::nullopt;
  return static_cast<unsigned char>(*high * 16 + *low);
}

}  // namespace perpend
