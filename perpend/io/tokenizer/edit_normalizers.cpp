#include <algorithm>
#include <utility>

#include "perpend/io/tokenizer/blanks.h"
#include "perpend/io/tokenizer/byte_alphabet.h"
#include "perpend/io/tokenizer/normalizer.h"
#include "perpend/io/tokenizer/utf8.h"

namespace perpend {
namespace {

void replace_all(AlignedText& text, const std::vector<TextRange>& matches,
                 const std::string& content) {
  AlignedText out = AlignedText::empty_like(text);
  std::size_t done = 0;
  for (const TextRange& match : matches) {
    out.append(text, {done, match.begin});
    // What replaces a match comes from its last character.
    out.append(content, match.end == 0 ? TextRange{} : text.origin({match.end - 1, match.end}));
    done = match.end;
  }
  out.append(text, {done, text.text().size()});
  text = std::move(out);
}

}  // namespace

Normalizer strip_normalizer(bool left, bool right) {
  return [left, right](AlignedText& text) {
    const std::size_t begin = left ? leading_blanks(text.text()) : 0;
    const std::size_t end = right ? trailing_blanks(text.text()) : text.text().size();
    text = text.slice({begin, std::max(begin, end)});
  };
}

Normalizer prepend_normalizer(std::string prefix) {
  return [prefix = std::move(prefix)](AlignedText& text) { text.prepend(prefix); };
}

Normalizer replace_normalizer(TextPattern pattern, std::string content) {
  return [pattern = std::move(pattern), content = std::move(content)](AlignedText& text) {
    std::vector<TextRange> matches;
    pattern(text.text(), matches);
    if (!matches.empty()) replace_all(text, matches, content);
  };
}

Normalizer byte_alphabet_normalizer() {
  return [](AlignedText& text) {
    AlignedText out = AlignedText::empty_like(text);
    std::string spelled;
    for (std::size_t at = 0; at < text.text().size(); ++at) {
      spelled.clear();
      append_utf8(character_of_byte(static_cast<unsigned char>(text.text()[at])), spelled);
      out.append(spelled, text.origin({at, at + 1}));
    }
    text = std::move(out);
  };
}

}  // namespace perpend
