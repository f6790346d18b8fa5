#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace perpend {

// Byte-level vocabularies spell each byte as a printable character: visible Latin-1 as it is, the
// 68 others as U+0100 and up, in order (GPT-2).
char32_t character_of_byte(unsigned char byte);

// The bytes that a vocabulary entry spells; absent when a character stands for no byte.
std::optional<std::string> bytes_of_entry(std::string_view entry);

// How byte-fallback vocabularies spell a byte that is part of no token: "<0x0A>".
std::string byte_token(unsigned char byte);
// The byte that `entry` spells so.
std::optional<unsigned char> byte_of_token(std::string_view entry);

}  // namespace perpend
