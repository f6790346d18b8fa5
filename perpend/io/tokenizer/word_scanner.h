#pragma once

#include <optional>
#include <string_view>

#include "perpend/io/tokenizer/text_pattern.h"

namespace perpend {

// Word patterns of published models, written out as scanners: they give what the regular
// expression gives, faster.
enum class WordScanner {
  kGpt2,    // 's 't ..., letters, numbers, others, each with one space before
  kLlama3,  // contractions in any case, numbers in threes, line breaks apart
  kQwen2,   // as kLlama3, every digit alone
};

// Matches consecutive parts that together are the text.
TextPattern scanner_pattern(WordScanner scanner);

// The regular expression that a scanner stands for.
std::string_view regex_of(WordScanner scanner);

// The scanner for a regular expression, if it is one of those.
std::optional<WordScanner> scanner_for(std::string_view regex);

}  // namespace perpend
