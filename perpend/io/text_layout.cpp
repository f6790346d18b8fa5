#include "perpend/io/text_layout.h"

#include <algorithm>

#include <utf8proc.h>

#include "perpend/io/tokenizer/utf8.h"

namespace perpend {
namespace {

bool is_blank(std::string_view text) {
  return text.size() == 1 && static_cast<unsigned char>(text[0]) <= 0x20;
}

int cells_of(char32_t code) {
  const int cells = utf8proc_charwidth(static_cast<utf8proc_int32_t>(code));
  return code < 0x20 ? 1 : cells;
}

// Places characters one after another and takes a word to the next line that does not end on this
// one.
class Layout {
 public:
  explicit Layout(int columns) : columns_(columns) {}

  void add(std::string_view text, int width) {
    if (text == "\n") return end_line();
    if (width == 0) return combine(text);
    const bool blank = is_blank(text);
    if (blank && column_ + width > columns_) return break_at_blank();
    while (column_ + width > columns_) break_line();
    placed_.push_back({text, line_, column_, width});
    column_ += width;
    if (blank) word_ = placed_.size();
  }
  std::vector<PlacedCharacter> take() { return std::move(placed_); }

 private:
  void combine(std::string_view mark) {
    if (placed_.empty()) return;
    std::string_view& text = placed_.back().text;
    if (text.data() + text.size() == mark.data()) text = {text.data(), text.size() + mark.size()};
  }
  void end_line() {
    ++line_;
    column_ = 0;
    word_ = placed_.size();
    line_begin_ = word_;
  }
  void break_at_blank() {
    // Further blanks stand for the same break.
    if (placed_.size() > line_begin_) end_line();
  }
  // The word that did not end begins the next line, unless it fills this one.
  void break_line() {
    const std::size_t moved = word_ > line_begin_ ? word_ : placed_.size();
    ++line_;
    column_ = 0;
    for (std::size_t i = moved; i < placed_.size(); ++i) {
      placed_[i].line = line_;
      placed_[i].column = column_;
      column_ += placed_[i].width;
    }
    word_ = line_begin_ = moved;
  }

  int columns_;
  int line_ = 0;
  int column_ = 0;
  std::size_t line_begin_ = 0;  // of placed_
  std::size_t word_ = 0;        // where the last word begins
  std::vector<PlacedCharacter> placed_;
};

std::string padded(const std::string& line, int used, int columns) {
  return line + std::string(static_cast<std::size_t>(std::max(0, columns - used)), ' ');
}

}  // namespace

std::vector<PlacedCharacter> lay_out(std::string_view text, int columns) {
  Layout layout(std::max(2, columns));
  while (!text.empty()) {
    const Utf8Character character = read_utf8(text);
    layout.add(text.substr(0, character.size), cells_of(character.code));
    text.remove_prefix(character.size);
  }
  return layout.take();
}

std::vector<std::string> wrapped_lines(std::string_view text, int columns) {
  std::vector<std::string> lines;
  for (const PlacedCharacter& character : lay_out(text, columns)) {
    lines.resize(std::max(lines.size(), static_cast<std::size_t>(character.line) + 1));
    lines.back() += is_blank(character.text) ? " " : valid_utf8(character.text);
  }
  for (std::string& line : lines) line.erase(line.find_last_not_of(' ') + 1);
  return lines;
}

std::string side_by_side(std::string_view left_title, std::string_view left,
                         std::string_view right_title, std::string_view right, int columns) {
  const int half = std::max(2, (columns - 3) / 2);  // " | " between them
  const auto column_of = [&](std::string_view title, std::string_view text) {
    std::vector<std::string> lines = {std::string(title), std::string(title.size(), '-')};
    for (std::string& line : wrapped_lines(text, half)) lines.push_back(std::move(line));
    return lines;
  };
  const auto cells = [](std::string_view line) {
    int sum = 0;
    for (const PlacedCharacter& character : lay_out(line, 1 << 20)) sum += character.width;
    return sum;
  };
  const auto lefts = column_of(left_title, left);
  const auto rights = column_of(right_title, right);
  std::string result;
  for (std::size_t i = 0; i < std::max(lefts.size(), rights.size()); ++i) {
    const std::string first = i < lefts.size() ? lefts[i] : "";
    result += padded(first, cells(first), half);
    result += " |";
    if (i < rights.size() && !rights[i].empty()) result += " " + rights[i];
    result += '\n';
  }
  return result;
}

}  // namespace perpend
