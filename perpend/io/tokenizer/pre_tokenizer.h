#pragma once

#include <functional>
#include <string_view>

namespace perpend {

// How text is cut into words before byte pairs are merged: scanners written out for the published
// patterns.
enum class PreTokenizer {
  kGpt2,    // 's 't ..., letters, numbers, others, each with one space before
  kSmolLm,  // every digit alone, then as kGpt2
  kLlama3,  // contractions in any case, numbers in threes, line breaks apart
  kQwen2,   // as kLlama3, every digit alone
};

// Calls `word` for consecutive parts of `text`, which must be valid UTF-8; together they are the
// text.
void for_each_word(PreTokenizer kind, std::string_view text,
                   const std::function<void(std::string_view)>& word);

}  // namespace perpend
