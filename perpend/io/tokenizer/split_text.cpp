#include "perpend/io/tokenizer/split_text.h"

#include <utility>

namespace perpend {
namespace {

struct Part {
  TextRange range;
  bool is_match;
};

// Matches and what lies between them, in order.
void list_parts(std::size_t size, const std::vector<TextRange>& matches, bool invert,
                std::vector<Part>& parts) {
  std::size_t done = 0;
  for (const TextRange& match : matches) {
    if (match.begin > done) parts.push_back({{done, match.begin}, invert});
    parts.push_back({match, !invert});
    done = match.end;
  }
  if (done < size) parts.push_back({{done, size}, invert});
}

// Whether part i joins part i - 1.
bool joins_previous(const std::vector<Part>& parts, std::size_t i, SplitBehavior behavior) {
  switch (behavior) {
    case SplitBehavior::kRemoved:
    case SplitBehavior::kIsolated:
      return false;
    case SplitBehavior::kContiguous:
      return parts[i].is_match == parts[i - 1].is_match;
    case SplitBehavior::kMergedWithPrevious:
      return parts[i].is_match && !parts[i - 1].is_match;
    case SplitBehavior::kMergedWithNext:
      return parts[i - 1].is_match && !parts[i].is_match;
  }
  return false;
}

}  // namespace

void split_words(SplitText& text, const SplitRule& rule) {
  std::vector<TextRange> words;
  words.reserve(text.words.size());
  std::vector<TextRange> matches;
  std::vector<Part> parts;
  for (std::size_t w = 0; w < text.words.size(); ++w) {
    matches.clear();
    parts.clear();
    rule.pattern(text.word(w), matches);
    list_parts(text.words[w].size(), matches, rule.invert, parts);
    const std::size_t shift = text.words[w].begin;
    const std::size_t first = words.size();
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const Part& part = parts[i];
      if (part.is_match && rule.behavior == SplitBehavior::kRemoved) continue;
      if (words.size() > first && joins_previous(parts, i, rule.behavior)) {
        words.back().end = shift + part.range.end;
      } else {
        words.push_back({shift + part.range.begin, shift + part.range.end});
      }
    }
  }
  std::erase_if(words, [](const TextRange& word) { return word.size() == 0; });
  text.words = std::move(words);
}

}  // namespace perpend
