#pragma once

#include <functional>
#include <string>

#include "perpend/io/tokenizer/split_text.h"

namespace perpend {

// A step that cuts words into smaller ones, perhaps rewriting them.
using PreTokenizer = std::function<void(SplitText& text)>;

enum class PrependScheme { kNever, kFirst, kAlways };

PreTokenizer split_pre_tokenizer(SplitRule rule);
// A space before each word that does not begin with one.
PreTokenizer prefix_space_pre_tokenizer();
// Spaces become `replacement`, which also leads each word (or the first of the text); then a word
// begins at each replacement, if `split`.
PreTokenizer metaspace_pre_tokenizer(std::string replacement, PrependScheme scheme, bool split);
// Every byte as its character of the byte alphabet.
PreTokenizer byte_alphabet_pre_tokenizer();

}  // namespace perpend
