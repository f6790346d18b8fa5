#pragma once

#include <array>
#include <string_view>

namespace perpend {

// Letters of 5 x 7 dots for pictures without a font library: digits, letters in one case and the
// signs that numbers and names need.
constexpr int kGlyphWidth = 5;
constexpr int kGlyphHeight = 7;

// The dots of a letter row by row, '#' for ink, kGlyphWidth * kGlyphHeight of them; an empty box
// for a letter that is not there, nothing for a blank.
std::string_view glyph_of(char letter);

}  // namespace perpend
