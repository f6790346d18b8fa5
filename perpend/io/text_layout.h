#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace perpend {

// A character in a grid of equal cells.
struct PlacedCharacter {
  std::string_view text;  // UTF-8, with the marks that combine with it
  int line = 0;
  int column = 0;
  int width = 1;  // cells; 2 for wide ones, as of Chinese
};

// `text`, which outlives the result, in lines of at most `columns` cells, at least 2. Words stay
// whole where a line has room for them; blanks where a line is broken have no place, and neither
// have line ends.
std::vector<PlacedCharacter> lay_out(std::string_view text, int columns);

// The same as lines of text, without blanks at their ends.
std::vector<std::string> wrapped_lines(std::string_view text, int columns);

// Two texts side by side, each under its title, in lines of at most `columns` cells.
std::string side_by_side(std::string_view left_title, std::string_view left,
                         std::string_view right_title, std::string_view right, int columns);

}  // namespace perpend
