#pragma once

#include <utf8proc.h>

namespace perpend {

// The category of a letter, mark, digit or punctuation sign that Unicode 15.1 or 16.0 added and
// that an older utf8proc takes for unassigned (CN). Marks are all called MN.
utf8proc_category_t category_since_unicode_15(char32_t c);

}  // namespace perpend
