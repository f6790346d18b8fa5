#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "perpend/io/tokenizer/tokenizer.h"

namespace perpend {

// Holds two tokenizers of one vocabulary against each other: the text of every token, every byte
// that UTF-8 uses, runs of blanks and hard cases (words, digits, signs, scripts), all behind
// `lead`. Returns a plain text that they read, or a token that they write, differently; absent when
// there is none.
std::optional<std::string> text_read_differently(const Tokenizer& a, const Tokenizer& b,
                                                 std::string_view lead = "");

// The same for texts of a chat template: tokens that are special to both, with and without blanks
// around them.
std::optional<std::string> template_text_read_differently(const Tokenizer& a, const Tokenizer& b);

}  // namespace perpend
