#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace perpend::jinja {

// Bytes of the character that begins with `lead`; 1 for bytes that begin none.
constexpr std::size_t character_bytes(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  if (byte >= 0xf0) return 4;
  if (byte >= 0xe0) return 3;
  return byte >= 0xc0 ? 2 : 1;
}

inline std::vector<std::string_view> split_characters(std::string_view text) {
  std::vector<std::string_view> characters;
  while (!text.empty()) {
    characters.push_back(text.substr(0, character_bytes(text.front())));
    text.remove_prefix(characters.back().size());
  }
  return characters;
}

inline std::size_t count_characters(std::string_view text) { return split_characters(text).size(); }

}  // namespace perpend::jinja
