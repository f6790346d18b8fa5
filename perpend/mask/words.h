#pragma once

#include <span>
#include <string>
#include <string_view>

namespace perpend {

// Words of the text form that can not be names of labels.
std::span<const std::string_view> label_words();
std::span<const std::string_view> mask_words();

bool is_name_letter(char c, bool first);

// Throws InvalidArgument unless `name` can be read back as the name of a label.
void check_name(std::string_view name);

// "unknown <what> '<word>', did you mean '...'?", or with the words that were expected.
std::string unknown_word(std::string_view what, std::string_view word,
                         std::span<const std::string_view> known, std::string_view expected);

}  // namespace perpend
