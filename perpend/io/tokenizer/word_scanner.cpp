#include "perpend/io/tokenizer/word_scanner.h"

#include <array>
#include <cstdint>

#include "perpend/core/error.h"
#include "perpend/io/tokenizer/unicode_class.h"
#include "perpend/io/tokenizer/utf8.h"

namespace perpend {
namespace {

enum class Class : std::uint8_t { kLetter, kNumber, kSpace, kOther };

Class class_of(char32_t c) {
  if (is_letter(c)) return Class::kLetter;
  if (is_number(c)) return Class::kNumber;
  return is_blank(c) ? Class::kSpace : Class::kOther;
}

struct Character {
  Class kind;
  std::size_t end;
};

// Positions are bytes at which a character begins.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  std::size_t gpt2(std::size_t i) const {
    if (const std::size_t end = contraction(i, false)) return end;
    const std::size_t start = text_[i] == ' ' && i + 1 < text_.size() ? i + 1 : i;
    const Character first = at(start);
    return first.kind == Class::kSpace ? spaces(i) : run(first.end, first.kind);
  }

  std::size_t llama3(std::size_t i, std::size_t max_digits) const {
    if (const std::size_t end = contraction(i, true)) return end;
    const Character first = at(i);
    if (first.kind == Class::kLetter) return run(first.end, Class::kLetter);
    if (first.kind == Class::kNumber) return numbers(first.end, max_digits - 1);
    // One character that is no letter, number or line break may lead a word.
    if (!is_break(i) && is(first.end, Class::kLetter)) return run(first.end, Class::kLetter);
    const std::size_t start = text_[i] == ' ' && i + 1 < text_.size() ? i + 1 : i;
    if (is(start, Class::kOther)) {
      std::size_t end = run(start, Class::kOther);
      while (end < text_.size() && is_break(end)) ++end;
      return end;
    }
    const std::size_t end = after_last_break(i);
    return end != 0 ? end : spaces(i);
  }

 private:
  static constexpr unsigned char kFirstBeyondAscii = 0x80;

  Character at(std::size_t i) const {
    static const std::array<Class, kFirstBeyondAscii> ascii = [] {
      std::array<Class, kFirstBeyondAscii> table{};
      for (unsigned char c = 0; c < kFirstBeyondAscii; ++c) table[c] = class_of(c);
      return table;
    }();
    const auto byte = static_cast<unsigned char>(text_[i]);
    if (byte < kFirstBeyondAscii) return {ascii[byte], i + 1};
    const Utf8Character character = read_utf8(text_.substr(i));
    return {class_of(character.code), i + character.size};
  }
  bool is(std::size_t i, Class wanted) const { return i < text_.size() && at(i).kind == wanted; }
  bool is_break(std::size_t i) const { return text_[i] == '\n' || text_[i] == '\r'; }

  std::size_t run(std::size_t i, Class wanted) const {
    while (i < text_.size()) {
      const Character character = at(i);
      if (character.kind != wanted) break;
      i = character.end;
    }
    return i;
  }

  std::size_t numbers(std::size_t i, std::size_t count) const {
    for (; count != 0 && is(i, Class::kNumber); --count) i = at(i).end;
    return i;
  }

  // Of the blanks from i on, those up to the last line break; 0 when there is none.
  std::size_t after_last_break(std::size_t i) const {
    std::size_t end = 0;
    for (; is(i, Class::kSpace); i = at(i).end) {
      if (is_break(i)) end = i + 1;
    }
    return end;
  }

  // \s+(?!\S)|\s+ : all blanks at the end of the text, all but the last before a word.
  std::size_t spaces(std::size_t i) const {
    std::size_t last = i;
    std::size_t end = i;
    while (is(end, Class::kSpace)) {
      last = end;
      end = at(end).end;
    }
    return end == text_.size() || last == i ? end : last;
  }

  // 's 't 'm 'd 're 've 'll ; 0 when there is none.
  std::size_t contraction(std::size_t i, bool any_case) const {
    if (text_[i] != '\'') return 0;
    const auto letter = [&](std::size_t k) -> char {
      if (k >= text_.size()) return 0;
      return any_case && text_[k] >= 'A' && text_[k] <= 'Z' ? static_cast<char>(text_[k] | 0x20)
                                                            : text_[k];
    };
    const char a = letter(i + 1);
    const char b = letter(i + 2);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return i + 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return i + 3;
    // U+017F, the long s, folds to s.
    return any_case && text_.substr(i + 1).starts_with("\xC5\xBF") ? i + 3 : 0;
  }

  std::string_view text_;
};

constexpr std::string_view kGpt2Regex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

template <class Next>
TextPattern pattern_of(Next next) {
  return [next](std::string_view text, std::vector<TextRange>& matches) {
    const Scanner scanner(text);
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = next(scanner, begin);
      matches.push_back({begin, end});
      begin = end;
    }
  };
}

}  // namespace

TextPattern scanner_pattern(WordScanner scanner) {
  if (scanner == WordScanner::kGpt2) {
    return pattern_of([](const Scanner& s, std::size_t i) { return s.gpt2(i); });
  }
  const std::size_t max_digits = scanner == WordScanner::kLlama3 ? 3 : 1;
  return pattern_of([=](const Scanner& s, std::size_t i) { return s.llama3(i, max_digits); });
}

std::string_view regex_of(WordScanner scanner) {
  switch (scanner) {
    case WordScanner::kGpt2:
      return kGpt2Regex;
    case WordScanner::kLlama3:
      return kLlama3Regex;
    case WordScanner::kQwen2:
      return kQwen2Regex;
  }
  bug("regex_of: unknown scanner");
}

std::optional<WordScanner> scanner_for(std::string_view regex) {
  for (const WordScanner scanner :
       {WordScanner::kGpt2, WordScanner::kLlama3, WordScanner::kQwen2}) {
    if (regex == regex_of(scanner)) return scanner;
  }
  return std::nullopt;
}

}  // namespace perpend
