#pragma once

#include <cstddef>
#include <string_view>

namespace perpend {

// Bytes of blank characters that valid UTF-8 begins with.
std::size_t leading_blanks(std::string_view text);
// Where the blank characters that it ends with begin.
std::size_t trailing_blanks(std::string_view text);

}  // namespace perpend
