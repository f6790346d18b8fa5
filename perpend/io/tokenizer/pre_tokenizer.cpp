#include "perpend/io/tokenizer/pre_tokenizer.h"

#include <utility>

#include "perpend/io/tokenizer/normalizer.h"

namespace perpend {
namespace {

// Rewrites each word by `rewrite`, which takes it as a text of its own.
template <class Rewrite>
void rewrite_words(SplitText& text, Rewrite rewrite) {
  AlignedText whole = AlignedText::empty_like(text.text);
  for (TextRange& range : text.words) {
    AlignedText word = text.text.slice(range);
    rewrite(word);
    const std::size_t begin = whole.text().size();
    whole.append(word, {0, word.text().size()});
    range = {begin, whole.text().size()};
  }
  text.text = std::move(whole);
}

}  // namespace

PreTokenizer split_pre_tokenizer(SplitRule rule) {
  return [rule = std::move(rule)](SplitText& text) { split_words(text, rule); };
}

PreTokenizer prefix_space_pre_tokenizer() {
  return [](SplitText& text) {
    rewrite_words(text, [](AlignedText& word) {
      if (!word.text().starts_with(' ')) word.prepend(" ");
    });
  };
}

PreTokenizer metaspace_pre_tokenizer(std::string replacement, PrependScheme scheme, bool split) {
  const Normalizer replace = replace_normalizer(literal_pattern(" "), replacement);
  const SplitRule rule{literal_pattern(replacement), SplitBehavior::kMergedWithNext};
  return [=](SplitText& text) {
    rewrite_words(text, [&](AlignedText& word) {
      replace(word);
      const bool leads =
          scheme == PrependScheme::kAlways ||
          (scheme == PrependScheme::kFirst && !word.empty() && word.origin({0, 1}).begin == 0);
      if (leads && !word.text().starts_with(replacement)) word.prepend(replacement);
    });
    if (split) split_words(text, rule);
  };
}

PreTokenizer byte_alphabet_pre_tokenizer() {
  return [spell = byte_alphabet_normalizer()](SplitText& text) { rewrite_words(text, spell); };
}

}  // namespace perpend
