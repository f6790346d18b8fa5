#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace perpend {

// A text being read, with the column (from 1) at which it begins in a longer one, so that errors
// name columns of the whole. `what` opens every error: "mask", "layers", "bindings".
class TextReader {
 public:
  TextReader(std::string_view text, std::string_view what, std::size_t first_column = 1);

  // Throws InvalidArgument "<what>: column <of position>: <problem>".
  [[noreturn]] void fail_at(std::size_t position, const std::string& problem) const;
  [[noreturn]] void fail(const std::string& problem) const { fail_at(position_, problem); }

  std::size_t position() const { return position_; }
  void move_to(std::size_t position) { position_ = position; }
  std::size_t column() const { return first_column_ + position_; }
  std::string_view text() const { return text_; }
  std::string_view what() const { return what_; }

  void skip_blanks();
  bool at_end();
  // The next character that is not blank, 0 at the end.
  char peek();
  bool accept(char c);
  void expect(char c, std::string_view where);
  void expect_end(std::string_view expected);
  // What is at hand, for "unexpected ...".
  std::string found();

  // Letters, digits and _, beginning with a letter; empty when there is none.
  std::string_view word();
  // Digits, with a '-' before them when `negative` is allowed.
  std::int64_t integer(bool negative = false);
  // The digits of a number as they stand.
  std::string_view digits(std::string_view expected);

 private:
  std::string_view text_;
  std::string_view what_;
  std::size_t first_column_;
  std::size_t position_ = 0;
};

}  // namespace perpend
