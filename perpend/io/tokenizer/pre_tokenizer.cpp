#include "perpend/io/tokenizer/pre_tokenizer.h"

#include <algorithm>
#include <vector>

#include <utf8proc.h>

#include "perpend/io/tokenizer/utf8.h"

namespace perpend {
namespace {

enum class Class : std::uint8_t { kLetter, kNumber, kSpace, kOther };

bool is_space(char32_t c) {
  return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

Class class_of(char32_t c) {
  if (c < 0x80) {
    if ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') return Class::kLetter;
    if (c >= '0' && c <= '9') return Class::kNumber;
    return is_space(c) ? Class::kSpace : Class::kOther;
  }
  if (is_space(c)) return Class::kSpace;
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) return Class::kLetter;
  if (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO) return Class::kNumber;
  return Class::kOther;
}

struct Character {
  char32_t code;
  Class kind;
  std::size_t begin;  // byte in the text
};

// One part of the text that a pattern sees on its own; positions are characters.
class Scanner {
 public:
  Scanner(const Character* characters, std::size_t count) : text_(characters), size_(count) {}

  std::size_t gpt2(std::size_t i) const {
    if (const std::size_t end = contraction(i, false)) return end;
    const std::size_t start = text_[i].code == ' ' && i + 1 < size_ ? i + 1 : i;
    if (kind(start) != Class::kSpace) return run(start, kind(start));
    return spaces(i);
  }

  std::size_t llama3(std::size_t i, std::size_t max_digits) const {
    if (const std::size_t end = contraction(i, true)) return end;
    if (kind(i) == Class::kLetter) return run(i, Class::kLetter);
    // One character that is no letter, number or line break may lead a word.
    if (!is_break(i) && kind(i) != Class::kNumber && i + 1 < size_ &&
        kind(i + 1) == Class::kLetter) {
      return run(i + 1, Class::kLetter);
    }
    if (kind(i) == Class::kNumber) return std::min(run(i, Class::kNumber), i + max_digits);
    const std::size_t start = text_[i].code == ' ' && i + 1 < size_ ? i + 1 : i;
    if (kind(start) == Class::kOther) {
      std::size_t end = run(start, Class::kOther);
      while (end < size_ && is_break(end)) ++end;
      return end;
    }
    // Blanks up to the last line break among them.
    std::size_t last_break = 0;
    for (std::size_t j = i; j < size_ && kind(j) == Class::kSpace; ++j) {
      if (is_break(j)) last_break = j + 1;
    }
    return last_break != 0 ? last_break : spaces(i);
  }

 private:
  Class kind(std::size_t i) const { return text_[i].kind; }
  bool is_break(std::size_t i) const { return text_[i].code == '\n' || text_[i].code == '\r'; }

  std::size_t run(std::size_t i, Class wanted) const {
    while (i < size_ && kind(i) == wanted) ++i;
    return i;
  }

  // \s+(?!\S)|\s+ : all blanks at the end of the text, all but the last before a word.
  std::size_t spaces(std::size_t i) const {
    const std::size_t end = run(i, Class::kSpace);
    return end == size_ || end - i == 1 ? end : end - 1;
  }

  // 's 't 'm 'd 're 've 'll ; 0 when there is none.
  std::size_t contraction(std::size_t i, bool any_case) const {
    if (text_[i].code != '\'') return 0;
    const auto letter = [&](std::size_t at) -> char32_t {
      if (at >= size_) return 0;
      const char32_t c = text_[at].code;
      if (any_case && c == 0x17F) return 's';  // folds to s
      return any_case && c >= 'A' && c <= 'Z' ? c + 32 : c;
    };
    const char32_t a = letter(i + 1);
    const char32_t b = letter(i + 2);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return i + 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return i + 3;
    return 0;
  }

  const Character* text_;
  std::size_t size_;
};

std::vector<Character> characters_of(std::string_view text) {
  std::vector<Character> characters;
  characters.reserve(text.size() + 1);
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Character character = read_utf8(text.substr(at));
    characters.push_back({character.code, class_of(character.code), at});
    at += character.size;
  }
  return characters;
}

}  // namespace

void for_each_word(PreTokenizer kind, std::string_view text,
                   const std::function<void(std::string_view)>& word) {
  std::vector<Character> characters = characters_of(text);
  const std::size_t size = characters.size();
  characters.push_back({0, Class::kOther, text.size()});
  const auto emit = [&](std::size_t begin, std::size_t end) {
    word(text.substr(characters[begin].begin, characters[end].begin - characters[begin].begin));
  };
  std::size_t begin = 0;
  while (begin < size) {
    // What one scanner sees: all of the text, or, where digits stand alone, up to the next digit.
    std::size_t end = size;
    if (kind == PreTokenizer::kSmolLm) {
      if (characters[begin].kind == Class::kNumber) {
        emit(begin, begin + 1);
        ++begin;
        continue;
      }
      end = begin;
      while (end < size && characters[end].kind != Class::kNumber) ++end;
    }
    const Scanner scanner(characters.data() + begin, end - begin);
    for (std::size_t i = 0; i < end - begin;) {
      std::size_t next = 0;
      switch (kind) {
        case PreTokenizer::kGpt2:
        case PreTokenizer::kSmolLm:
          next = scanner.gpt2(i);
          break;
        case PreTokenizer::kLlama3:
          next = scanner.llama3(i, 3);
          break;
        case PreTokenizer::kQwen2:
          next = scanner.llama3(i, 1);
          break;
      }
      emit(begin + i, begin + next);
      i = next;
    }
    begin = end;
  }
}

}  // namespace perpend
