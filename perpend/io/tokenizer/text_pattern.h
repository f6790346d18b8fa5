#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "perpend/io/tokenizer/aligned_text.h"

namespace perpend {

// Finds something in valid UTF-8: appends its places, in order and without overlap.
using TextPattern = std::function<void(std::string_view text, std::vector<TextRange>& matches)>;

TextPattern literal_pattern(std::string literal);
// Each character of the class alone.
TextPattern character_pattern(bool (*is_wanted)(char32_t));
// Letters, digits and the like, and runs of anything else but blanks: \w+|[^\w\s]+
TextPattern word_or_sign_pattern();

}  // namespace perpend
