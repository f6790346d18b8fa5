#include "perpend/mask/words.h"

#include <algorithm>
#include <array>
#include <vector>

#include "perpend/core/error.h"

namespace perpend {
namespace {

constexpr std::size_t kLongestWord = 64;

constexpr std::array<std::string_view, 6> kLabelWords = {"block", "segments", "segments_at",
                                                         "copy",  "within",   "grid"};
constexpr std::array<std::string_view, 15> kMaskWords = {
    "all",  "none", "causal", "window", "sink",  "same",  "upto", "before",
    "q_in", "k_in", "every",  "near",   "table", "tiles", "heads"};

// Number of edits that turn one word into the other.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({substituted, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

std::span<const std::string_view> label_words() { return kLabelWords; }
std::span<const std::string_view> mask_words() { return kMaskWords; }

bool is_name_letter(char c, bool first) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         (!first && c >= '0' && c <= '9');
}

void check_name(std::string_view name) {
  bool good = !name.empty() && name.size() <= kLongestWord && is_name_letter(name.front(), true);
  for (const char c : name) good &= is_name_letter(c, false);
  check(good, concat("mask: '", name.substr(0, kLongestWord),
                     "' is not a name: expected a letter, then letters, digits and _"));
  const bool taken = std::find(kLabelWords.begin(), kLabelWords.end(), name) != kLabelWords.end();
  check(!taken,
        concat("mask: '", name, "' is a label of its own, so that nothing else can be named so"));
}

std::string unknown_word(std::string_view what, std::string_view word,
                         std::span<const std::string_view> known, std::string_view expected) {
  std::string text = concat("unknown ", what, " '", word.substr(0, 40), "'");
  std::string_view nearest;
  std::size_t least = std::min<std::size_t>(3, word.size());
  for (const std::string_view candidate : known) {
    if (word.size() >= kLongestWord) break;
    const std::size_t edits = distance(word, candidate);
    if (edits < least) {
      least = edits;
      nearest = candidate;
    }
  }
  return nearest.empty() ? concat(text, ", expected ", expected)
                         : concat(text, ", did you mean '", nearest, "'?");
}

}  // namespace perpend
