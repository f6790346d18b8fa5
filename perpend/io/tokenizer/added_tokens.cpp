#include "perpend/io/tokenizer/added_tokens.h"

#include <algorithm>

#include "perpend/io/tokenizer/blanks.h"
#include "perpend/io/tokenizer/unicode_class.h"
#include "perpend/io/tokenizer/utf8.h"

namespace perpend {
namespace {

bool is_within_word(std::string_view text, TextRange range) {
  if (range.begin != 0) {
    std::size_t last = range.begin - 1;
    while (is_utf8_continuation(text[last])) --last;
    if (is_word_character(read_utf8(text.substr(last)).code)) return true;
  }
  return range.end != text.size() && is_word_character(read_utf8(text.substr(range.end)).code);
}

}  // namespace

void AddedTokenMatcher::add(const AddedToken& token, std::string_view pattern) {
  std::uint32_t node = 0;
  for (const char byte : pattern) {
    std::uint32_t next = child(node, byte);
    if (next == kNone) {
      next = static_cast<std::uint32_t>(nodes_.size());
      nodes_.push_back({byte, kNone, nodes_[node].first_child, kNone});
      nodes_[node].first_child = next;
    }
    node = next;
  }
  nodes_[node].token = static_cast<std::uint32_t>(tokens_.size());
  tokens_.push_back(token);
}

std::uint32_t AddedTokenMatcher::child(std::uint32_t node, char byte) const {
  std::uint32_t next = nodes_[node].first_child;
  while (next != kNone && nodes_[next].byte != byte) next = nodes_[next].next_sibling;
  return next;
}

std::uint32_t AddedTokenMatcher::longest_at(std::string_view text, std::size_t at,
                                            std::size_t& end) const {
  std::uint32_t longest = kNone;
  std::uint32_t node = 0;
  while (at < text.size() && (node = child(node, text[at])) != kNone) {
    ++at;
    if (nodes_[node].token == kNone) continue;
    longest = nodes_[node].token;
    end = at;
  }
  return longest;
}

std::vector<AddedTokenMatcher::Match> AddedTokenMatcher::find_all(std::string_view text,
                                                                  bool parse_special) const {
  std::vector<Match> matches;
  if (tokens_.empty()) return matches;
  std::size_t taken = 0;
  for (std::size_t at = 0; at < text.size();) {
    TextRange range{at, at};
    const std::uint32_t index = longest_at(text, at, range.end);
    at = std::max(at + 1, range.end);
    if (index == kNone) continue;
    const AddedToken& token = tokens_[index];
    if (token.special && !parse_special) continue;
    if (token.single_word && is_within_word(text, range)) continue;
    if (token.lstrip) {
      range.begin = std::max(taken, trailing_blanks(text.substr(0, range.begin)));
    }
    if (token.rstrip) range.end += leading_blanks(text.substr(range.end));
    taken = range.end;
    matches.push_back({token.id, range});
  }
  return matches;
}

}  // namespace perpend
