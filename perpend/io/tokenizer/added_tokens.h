#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "perpend/io/tokenizer/aligned_text.h"

namespace perpend {

// A token that is found in the text before any model sees it.
struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool single_word = false;  // not within a word
  bool lstrip = false;       // takes the blanks before it
  bool rstrip = false;       // and after it
  bool normalized = false;   // looked for in normalized text, and normalized itself
  bool special = false;
};

// Finds added tokens: at each place the longest, from left to right.
class AddedTokenMatcher {
 public:
  // Looks for `pattern`, which is not empty; of equal patterns the last counts.
  void add(const AddedToken& token, std::string_view pattern);

  struct Match {
    std::int32_t id;
    TextRange range;
  };
  // Special tokens are passed over unless `parse_special`. Ranges may overlap where one token takes
  // the blanks that another begins with.
  std::vector<Match> find_all(std::string_view text, bool parse_special) const;

 private:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};

  // A trie: the children of a node are a list.
  struct Node {
    char byte = 0;
    std::uint32_t first_child = kNone;
    std::uint32_t next_sibling = kNone;
    std::uint32_t token = kNone;
  };

  std::uint32_t child(std::uint32_t node, char byte) const;
  // End of the longest token at `at`; its index, or kNone.
  std::uint32_t longest_at(std::string_view text, std::size_t at, std::size_t& end) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_{1};
};

}  // namespace perpend
