#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "perpend/core/error.h"

namespace perpend {

// A text being read, with the column (from 1) at which it begins in a longer one, so that errors
// name columns of the whole. `what` opens every error: "mask", "layers", "bindings".
class TextReader {
 public:
  TextReader(std::string_view text, std::string_view what, std::size_t first_column = 1);

  // Throws InvalidArgument "<what>: column <of position>: <problem>".
  [[noreturn]] void fail_at(std::size_t position, const std::string& problem) const;
  [[noreturn]] void fail(const std::string& problem) const { fail_at(position_, problem); }

  // What `body` returns. An InvalidArgument that it throws without a column (a value that does not
  // fit) is given that of `position`.
  template <class Body>
  auto placed(std::size_t position, Body body) const {
    try {
      return body();
    } catch (const InvalidArgument& error) {
      fail_placed(position, error.what());
    }
  }

  // The last part of such an error: what was wrong.
  static std::string_view problem_of(std::string_view message);

  std::size_t position() const { return position_; }
  void move_to(std::size_t position) { position_ = position; }
  std::size_t column() const { return first_column_ + position_; }
  std::string_view text() const { return text_; }

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

  // Counts the segments of all labels of a text, of which a few letters ask for millions.
  void count_segments(std::int64_t count);

 private:
  [[noreturn]] void fail_placed(std::size_t position, std::string_view message) const;

  std::string_view text_;
  std::string what_;
  std::size_t first_column_;
  std::size_t position_ = 0;
  std::int64_t num_segments_ = 0;
};

}  // namespace perpend
