#pragma once

namespace perpend {

// Classes of characters by the Unicode data of utf8proc, brought up to Unicode 16 where it is
// older.

bool is_blank(char32_t c);  // White_Space
bool is_letter(char32_t c);
bool is_number(char32_t c);
bool is_punctuation(char32_t c);  // category P, and every visible ASCII sign
bool is_mark(char32_t c);
bool is_nonspacing_mark(char32_t c);
bool is_other(char32_t c);           // controls, formats, private use, unassigned
bool is_word_character(char32_t c);  // \w of UTS #18: letters, marks, digits, connectors, joiners
bool is_cjk_ideograph(char32_t c);   // the blocks that BERT sets apart

// One or two characters; `second` is 0 for one. Without context: no final sigma.
struct Lowercase {
  char32_t first;
  char32_t second = 0;
};
Lowercase lowercase_of(char32_t c);

}  // namespace perpend
