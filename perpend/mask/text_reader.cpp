#include "perpend/mask/text_reader.h"

#include <algorithm>

#include "perpend/core/error.h"
#include "perpend/mask/words.h"

namespace perpend {
namespace {

constexpr std::size_t kMaxText = std::size_t{1} << 16;
constexpr std::int64_t kMaxNumber = std::int64_t{1} << 60;

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

TextReader::TextReader(std::string_view text, std::string_view what, std::size_t first_column)
    : text_(text), what_(what), first_column_(first_column) {
  check(text.size() <= kMaxText, concat(what, ": text is longer than ", kMaxText, " characters"));
}

void TextReader::fail_at(std::size_t position, const std::string& problem) const {
  throw InvalidArgument(concat(what_, ": column ", first_column_ + position, ": ", problem));
}

void TextReader::fail_placed(std::size_t position, std::string_view message) const {
  if (message.find(": column ") != std::string_view::npos) {
    throw InvalidArgument(std::string(message));
  }
  fail_at(position, std::string(problem_of(message)));
}

std::string_view TextReader::problem_of(std::string_view message) {
  message.remove_prefix(std::min(message.find(": ") + 2, message.size()));
  if (message.substr(0, 7) == "column ") message.remove_prefix(message.find(": ") + 2);
  return message;
}

void TextReader::skip_blanks() {
  while (position_ < text_.size() && is_blank(text_[position_])) ++position_;
}

bool TextReader::at_end() {
  skip_blanks();
  return position_ == text_.size();
}

char TextReader::peek() { return at_end() ? '\0' : text_[position_]; }

bool TextReader::accept(char c) {
  if (at_end() || text_[position_] != c) return false;
  ++position_;
  return true;
}

void TextReader::expect(char c, std::string_view where) {
  if (!accept(c)) fail(concat("expected '", c, "' ", where));
}

void TextReader::expect_end(std::string_view expected) {
  if (!at_end()) fail(concat(found(), ", expected ", expected));
}

std::string TextReader::found() {
  if (at_end()) return "unexpected end";
  // All bytes of a character of UTF-8.
  std::size_t end = position_ + 1;
  while (end < text_.size() && (static_cast<unsigned char>(text_[end]) & 0xc0U) == 0x80U) ++end;
  return concat("unexpected '", text_.substr(position_, end - position_), "'");
}

std::string_view TextReader::word() {
  skip_blanks();
  const std::size_t begin = position_;
  while (position_ < text_.size() && is_name_letter(text_[position_], position_ == begin)) {
    ++position_;
  }
  return text_.substr(begin, position_ - begin);
}

std::string_view TextReader::digits(std::string_view expected) {
  skip_blanks();
  const std::size_t begin = position_;
  while (position_ < text_.size() && is_digit(text_[position_])) ++position_;
  if (position_ == begin) fail(concat("expected ", expected));
  return text_.substr(begin, position_ - begin);
}

std::int64_t TextReader::integer(bool negative) {
  const bool minus = negative && accept('-');
  skip_blanks();
  const std::size_t begin = position_;
  std::int64_t value = 0;
  for (const char digit : digits("a number")) {
    if (value > kMaxNumber / 10) fail_at(begin, "the number is too large");
    value = value * 10 + (digit - '0');
  }
  return minus ? -value : value;
}

void TextReader::count_segments(std::int64_t count) {
  constexpr std::int64_t kMost = std::int64_t{1} << 22;
  num_segments_ += count;
  if (num_segments_ > kMost) fail(concat("the text has more than ", kMost, " segments"));
}

}  // namespace perpend
