#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <vector>

#include "perpend/core/error.h"
#include "perpend/mask/mask.h"
#include "perpend/mask/mask_text.h"

namespace perpend {
namespace {

constexpr std::size_t kMaxText = 1 << 16;
constexpr int kMaxDepth = 100;

constexpr std::array<std::string_view, 5> kWords = {"all", "none", "causal", "window", "sink"};

// Number of edits that turn one word into the other.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({substituted, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

std::string unknown_word(std::string_view word) {
  std::string text = concat("unknown word '", word.substr(0, 40), "'");
  for (std::string_view known : kWords) {
    if (word.size() < 40 && distance(word, known) <= 2) {
      return concat(text, ", did you mean '", known, "'?");
    }
  }
  return concat(text, ", expected all, none, causal, window(...), sink(...), ~ or (");
}

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Recursive descent: expression = term { | term }, term = factor { & factor },
// factor = ~ factor | ( expression ) | primitive.
class Parser {
 public:
  Parser(std::string_view text, std::size_t first_column)
      : text_(text), first_column_(first_column) {}

  Mask parse() {
    if (text_.size() > kMaxText) {
      throw InvalidArgument(concat("mask: text is longer than ", kMaxText, " characters"));
    }
    Mask mask = expression(0);
    skip_blanks();
    if (position_ < text_.size())
      fail(concat("unexpected '", text_[position_], "', expected & or | or the end"));
    return mask;
  }

 private:
  [[noreturn]] void fail_at(std::size_t position, const std::string& what) const {
    throw InvalidArgument(concat("mask: column ", first_column_ + position, ": ", what));
  }
  [[noreturn]] void fail(const std::string& what) const { fail_at(position_, what); }

  void skip_blanks() {
    while (position_ < text_.size() && (text_[position_] == ' ' || text_[position_] == '\t' ||
                                        text_[position_] == '\n' || text_[position_] == '\r')) {
      ++position_;
    }
  }
  bool accept(char c) {
    skip_blanks();
    if (position_ >= text_.size() || text_[position_] != c) return false;
    ++position_;
    return true;
  }
  void expect(char c, std::string_view where) {
    if (!accept(c)) fail(concat("expected '", c, "' ", where));
  }

  Mask expression(int depth) {
    Mask mask = term(depth);
    while (accept('|')) mask = mask | term(depth);
    return mask;
  }
  Mask term(int depth) {
    Mask mask = factor(depth);
    while (accept('&')) mask = mask & factor(depth);
    return mask;
  }
  Mask factor(int depth) {
    if (depth > kMaxDepth) fail(concat("nested deeper than ", kMaxDepth));
    if (accept('~')) return ~factor(depth + 1);
    if (accept('(')) {
      Mask mask = expression(depth + 1);
      expect(')', "to close the bracket");
      return mask;
    }
    return primitive();
  }

  Mask primitive() {
    skip_blanks();
    const std::size_t begin = position_;
    while (position_ < text_.size() &&
           (is_letter(text_[position_]) || (position_ > begin && is_digit(text_[position_])))) {
      ++position_;
    }
    const std::string_view word = text_.substr(begin, position_ - begin);
    if (word.empty()) {
      fail(position_ == text_.size()
               ? "unexpected end, expected a mask"
               : concat("unexpected '", text_[position_], "', expected a mask"));
    }
    if (word == "all") return Mask::all();
    if (word == "none") return Mask::none();
    if (word == "causal") return Mask::causal();
    if (word == "sink") return Mask::sink(arguments(word, 1, 1).front());
    if (word == "window") {
      const auto values = arguments(word, 1, 2);
      return values.size() == 1 ? Mask::window(values[0]) : Mask::window(values[0], values[1]);
    }
    fail_at(begin, unknown_word(word));
  }

  std::vector<std::int64_t> arguments(std::string_view word, std::size_t least, std::size_t most) {
    expect('(', concat("after ", word));
    std::vector<std::int64_t> values = {integer()};
    while (values.size() < most && accept(',')) values.push_back(integer());
    if (values.size() < least) fail(concat(word, " needs ", least, " arguments"));
    expect(')', concat("after the arguments of ", word));
    return values;
  }

  std::int64_t integer() {
    skip_blanks();
    const std::size_t begin = position_;
    std::int64_t value = 0;
    while (position_ < text_.size() && is_digit(text_[position_])) {
      value = value * 10 + (text_[position_++] - '0');
      if (value > std::int64_t{1} << 40) fail_at(begin, "the number is too large");
    }
    if (position_ == begin) fail("expected a number");
    return value;
  }

  std::string_view text_;
  std::size_t first_column_;
  std::size_t position_ = 0;
};

}  // namespace

Mask parse_mask(std::string_view text) { return parse_mask_at(text, 1); }

Mask parse_mask_at(std::string_view text, std::size_t first_column) {
  return Parser(text, first_column).parse();
}

}  // namespace perpend
