#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "perpend/mask/mask.h"
#include "perpend/mask/text_reader.h"

namespace perpend {

// parse_mask() and parse_label() for a part of a longer text that begins at `first_column`, so that
// errors name columns of the whole.
Mask parse_mask_at(std::string_view text, std::size_t first_column);
Label parse_label_at(std::string_view text, std::size_t first_column);

// Reads a label where the reader stands.
Label read_label(TextReader& reader, int depth = 0);

// One `selectors: text` of a choice between masks (heads of a mask, layers of a model).
struct Choice {
  struct Selector {
    int first = 0;
    int last = 0;  // included
    bool is_rest = false;
    bool is_all = false;
    std::size_t column = 0;
    std::size_t last_column = 0;  // of `last`
  };
  std::vector<Selector> selectors{};  // none when the text stands alone
  std::string_view text;
  std::size_t column = 0;  // of the text
};

// Splits `0-3, 5: a; rest: b` at the separators that stand outside brackets. `noun` names what is
// selected. Throws InvalidArgument "<what>: column ..." for anything else.
std::vector<Choice> split_choices(std::string_view text, std::string_view what,
                                  std::string_view noun, std::size_t first_column);

}  // namespace perpend
