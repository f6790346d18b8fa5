#pragma once

#include <functional>
#include <optional>
#include <string>

#include "perpend/io/tokenizer/aligned_text.h"
#include "perpend/io/tokenizer/normal_form.h"
#include "perpend/io/tokenizer/text_pattern.h"

namespace perpend {

// A step that rewrites text before it is cut into words.
using Normalizer = std::function<void(AlignedText& text)>;

struct BertNormalizerOptions {
  bool clean_text = true;           // drop controls, turn every blank into a space
  bool separate_ideographs = true;  // spaces around CJK characters
  bool strip_accents = true;
  bool lowercase = true;
};

Normalizer lowercase_normalizer();
Normalizer strip_accents_normalizer();
Normalizer nmt_normalizer();  // as the Moses-like cleaning of SentencePiece
Normalizer bert_normalizer(BertNormalizerOptions options);
Normalizer strip_normalizer(bool left, bool right);
// Nothing is prepended to an empty text.
Normalizer prepend_normalizer(std::string prefix);
Normalizer replace_normalizer(TextPattern pattern, std::string content);
// Every byte as its character of the byte alphabet.
Normalizer byte_alphabet_normalizer();

}  // namespace perpend
