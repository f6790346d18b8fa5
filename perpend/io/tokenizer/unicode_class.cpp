#include "perpend/io/tokenizer/unicode_class.h"

#include <algorithm>
#include <iterator>

#include <utf8proc.h>

#include "perpend/io/tokenizer/unicode_additions.h"

namespace perpend {
namespace {

struct CodePointRange {
  char32_t first;
  char32_t last;
};

template <std::size_t n>
bool is_in(const CodePointRange (&ranges)[n], char32_t c) {
  return std::any_of(std::begin(ranges), std::end(ranges), [c](const CodePointRange& range) {
    return c >= range.first && c <= range.last;
  });
}

utf8proc_category_t category_of(char32_t c) {
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category == UTF8PROC_CATEGORY_CN ? category_since_unicode_15(c) : category;
}

bool is_category(char32_t c, utf8proc_category_t first, utf8proc_category_t last) {
  const utf8proc_category_t category = category_of(c);
  return category >= first && category <= last;
}

}  // namespace

bool is_blank(char32_t c) {
  if (c < 0x80) return (c >= 9 && c <= 13) || c == ' ';
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_letter(char32_t c) {
  if (c < 0x80) return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
  return is_category(c, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LO);
}

bool is_number(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  return is_category(c, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NO);
}

bool is_punctuation(char32_t c) {
  if (c < 0x80) return c > ' ' && c < 0x7F && !is_letter(c) && !is_number(c);
  return is_category(c, UTF8PROC_CATEGORY_PC, UTF8PROC_CATEGORY_PO);
}

bool is_mark(char32_t c) { return is_category(c, UTF8PROC_CATEGORY_MN, UTF8PROC_CATEGORY_ME); }

bool is_nonspacing_mark(char32_t c) { return category_of(c) == UTF8PROC_CATEGORY_MN; }

bool is_other(char32_t c) {
  if (c < 0x80) return c < ' ' || c == 0x7F;
  const utf8proc_category_t category = category_of(c);
  return category == UTF8PROC_CATEGORY_CN || category >= UTF8PROC_CATEGORY_CC;
}

bool is_word_character(char32_t c) {
  if (c < 0x80) return is_letter(c) || is_number(c) || c == '_';
  // Alphabetic symbols: circled and squared letters.
  constexpr CodePointRange kSymbols[] = {
      {0x24B6, 0x24E9}, {0x1F130, 0x1F149}, {0x1F150, 0x1F169}, {0x1F170, 0x1F189}};
  const utf8proc_category_t category = category_of(c);
  return is_letter(c) || is_mark(c) || category == UTF8PROC_CATEGORY_ND ||
         category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_PC || c == 0x200C ||
         c == 0x200D || is_in(kSymbols, c);
}

bool is_cjk_ideograph(char32_t c) {
  constexpr CodePointRange kBlocks[] = {{0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFAFF},
                                        {0x20000, 0x2A6DF}, {0x2A700, 0x2B81F}, {0x2B920, 0x2CEAF},
                                        {0x2F800, 0x2FA1F}};
  return c >= 0x3400 && is_in(kBlocks, c);
}

Lowercase lowercase_of(char32_t c) {
  if (c < 0x80) return {c >= 'A' && c <= 'Z' ? c + 0x20 : c};
  // The only character whose lower case is two in every language.
  if (c == 0x130) return {'i', 0x307};
  return {static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)))};
}

}  // namespace perpend
