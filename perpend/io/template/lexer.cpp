#include "perpend/io/template/lexer.h"

#include <algorithm>
#include <array>

#include "perpend/core/error.h"

namespace perpend::jinja {
namespace {

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  Lexer(std::string_view source, const std::string& name) : source_(source), name_(name) {
    if (source_.ends_with('\n')) source_.remove_suffix(1);
    if (source_.ends_with('\r')) source_.remove_suffix(1);
  }

  std::vector<Token> run() {
    while (position_ < source_.size()) {
      const std::size_t tag = next_tag();
      const std::string_view sign = source_.substr(tag, 2);
      const char modifier = tag + 2 < source_.size() ? source_[tag + 2] : ' ';
      emit_text(tag, sign, modifier);
      if (tag == source_.size()) break;
      position_ = tag + 2 + (modifier == '-' || modifier == '+' ? 1 : 0);
      if (sign == "{#") {
        skip_comment();
      } else if (sign == "{{") {
        expression(Token::Kind::kOutputBegin, Token::Kind::kOutputEnd, "}}");
      } else if (!raw_block()) {
        expression(Token::Kind::kBlockBegin, Token::Kind::kBlockEnd, "%}");
      }
    }
    add(Token::Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw IoError(concat(name_, ": line ", line_, ": ", what));
  }
  void add(Token::Kind kind, std::string_view text) {
    tokens_.push_back({kind, std::string(text), line_});
  }
  void count_lines(std::string_view text) {
    line_ += static_cast<int>(std::count(text.begin(), text.end(), '\n'));
  }

  std::size_t next_tag() const {
    for (std::size_t i = position_; i + 1 < source_.size(); ++i) {
      if (source_[i] == '{' &&
          (source_[i + 1] == '{' || source_[i + 1] == '%' || source_[i + 1] == '#')) {
        return i;
      }
    }
    return source_.size();
  }

  // The text up to `tag`, with what the tags before and after it take away.
  void emit_text(std::size_t tag, std::string_view sign, char modifier) {
    std::string_view text = source_.substr(position_, tag - position_);
    count_lines(text);
    if (strip_next_) {
      while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
    } else if (trim_next_) {
      if (text.starts_with("\r\n")) {
        text.remove_prefix(2);
      } else if (text.starts_with('\n')) {
        text.remove_prefix(1);
      }
    }
    if (modifier == '-') {
      while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
    } else if (modifier != '+' && (sign == "{%" || sign == "{#")) {
      lstrip(text, tag);
    }
    if (!text.empty()) add(Token::Kind::kText, text);
    strip_next_ = trim_next_ = false;
  }

  // Takes the blanks between the start of the line and a block tag, if there is nothing else.
  void lstrip(std::string_view& text, std::size_t tag) const {
    std::size_t line_start = tag;
    while (line_start > 0 && source_[line_start - 1] != '\n') --line_start;
    for (std::size_t i = line_start; i < tag; ++i) {
      if (source_[i] != ' ' && source_[i] != '\t') return;
    }
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  }

  // Reads `-`, `+` or nothing, then `close`.
  bool accept_close(std::string_view close, bool is_block) {
    const bool minus = source_.substr(position_, 1) == "-";
    const bool plus = source_.substr(position_, 1) == "+";
    const std::size_t skip = minus || plus ? 1 : 0;
    if (source_.substr(position_ + skip, 2) != close) return false;
    position_ += skip + 2;
    strip_next_ = minus;
    trim_next_ = is_block && !plus;
    return true;
  }

  void skip_comment() {
    while (position_ < source_.size()) {
      if (accept_close("#}", true)) return;
      if (source_[position_] == '\n') ++line_;
      ++position_;
    }
    fail("comment without #}");
  }

  // {% raw %} ... {% endraw %}: text as it stands.
  bool raw_block() {
    std::size_t i = position_;
    const auto skip_blanks = [&] {
      while (i < source_.size() && is_blank(source_[i])) ++i;
    };
    skip_blanks();
    if (source_.substr(i, 3) != "raw" ||
        (i + 3 < source_.size() && (is_letter(source_[i + 3]) || is_digit(source_[i + 3])))) {
      return false;
    }
    i += 3;
    skip_blanks();
    position_ = i;
    if (!accept_close("%}", true)) fail("expected %} after raw");
    const bool strip_left = strip_next_;
    const std::size_t begin = position_;
    for (std::size_t open = source_.find("{%", begin); open != std::string_view::npos;
         open = source_.find("{%", open + 2)) {
      i = open + 2;
      const bool strip_right = source_.substr(i, 1) == "-";
      if (strip_right || source_.substr(i, 1) == "+") ++i;
      skip_blanks();
      if (source_.substr(i, 6) != "endraw") continue;
      i += 6;
      skip_blanks();
      std::string_view text = source_.substr(begin, open - begin);
      count_lines(text);
      while (strip_left && !text.empty() && is_blank(text.front())) text.remove_prefix(1);
      if (!strip_left && text.starts_with('\n')) text.remove_prefix(1);
      while (strip_right && !text.empty() && is_blank(text.back())) text.remove_suffix(1);
      if (!strip_right) lstrip(text, open);
      if (!text.empty()) add(Token::Kind::kText, text);
      position_ = i;
      if (!accept_close("%}", true)) fail("expected %} after endraw");
      return true;
    }
    fail("raw without endraw");
  }

  void expression(Token::Kind begin, Token::Kind end, std::string_view close) {
    add(begin, "");
    int depth = 0;
    while (true) {
      while (position_ < source_.size() && is_blank(source_[position_])) {
        if (source_[position_++] == '\n') ++line_;
      }
      if (position_ >= source_.size()) fail(concat("tag without ", close));
      // A closing brace inside brackets belongs to the expression: {{ {'a': {}} }}.
      if (depth == 0 && accept_close(close, end == Token::Kind::kBlockEnd)) {
        add(end, "");
        return;
      }
      const char c = source_[position_];
      if (c == '(' || c == '[' || c == '{') ++depth;
      if (c == ')' || c == ']' || c == '}') --depth;
      if (depth < 0) fail(concat("unexpected '", c, "'"));
      token(c);
    }
  }

  void token(char c) {
    const std::size_t begin = position_;
    if (is_letter(c)) {
      while (position_ < source_.size() &&
             (is_letter(source_[position_]) || is_digit(source_[position_]))) {
        ++position_;
      }
      add(Token::Kind::kName, source_.substr(begin, position_ - begin));
    } else if (is_digit(c)) {
      number();
    } else if (c == '"' || c == '\'') {
      string(c);
    } else {
      symbol(c);
    }
  }

  void number() {
    const std::size_t begin = position_;
    const auto digits = [&] {
      while (position_ < source_.size() &&
             (is_digit(source_[position_]) || source_[position_] == '_')) {
        ++position_;
      }
    };
    digits();
    bool real = false;
    if (position_ + 1 < source_.size() && source_[position_] == '.' &&
        is_digit(source_[position_ + 1])) {
      real = true;
      ++position_;
      digits();
    }
    if (position_ + 1 < source_.size() && (source_[position_] | 0x20) == 'e') {
      std::size_t i = position_ + 1;
      if (source_[i] == '+' || source_[i] == '-') ++i;
      if (i < source_.size() && is_digit(source_[i])) {
        real = true;
        position_ = i;
        digits();
      }
    }
    std::string text(source_.substr(begin, position_ - begin));
    std::erase(text, '_');
    add(real ? Token::Kind::kFloat : Token::Kind::kInteger, text);
  }

  void string(char quote) {
    std::string text;
    for (++position_; position_ < source_.size(); ++position_) {
      char c = source_[position_];
      if (c == quote) {
        ++position_;
        add(Token::Kind::kString, text);
        return;
      }
      if (c == '\n') ++line_;
      if (c == '\\' && position_ + 1 < source_.size()) {
        c = source_[++position_];
        constexpr std::string_view kFrom = "ntr0bfva";
        constexpr std::string_view kTo = std::string_view("\n\t\r\0\b\f\v\a", 8);
        const std::size_t known = kFrom.find(c);
        if (known != std::string_view::npos) {
          c = kTo[known];
        } else if (c != '\\' && c != '\'' && c != '"') {
          text += '\\';
        }
      }
      text += c;
    }
    fail("string without a closing quote");
  }

  void symbol(char c) {
    constexpr std::array<std::string_view, 6> kPairs = {"==", "!=", "<=", ">=", "//", "**"};
    const std::string_view two = source_.substr(position_, 2);
    const bool pair = std::find(kPairs.begin(), kPairs.end(), two) != kPairs.end();
    constexpr std::string_view kSingles = "+-*/%~<>=()[]{},.:|";
    if (!pair && kSingles.find(c) == std::string_view::npos) fail(concat("unexpected '", c, "'"));
    add(Token::Kind::kOperator, source_.substr(position_, pair ? 2 : 1));
    position_ += pair ? 2 : 1;
  }

  std::string_view source_;
  const std::string& name_;
  std::size_t position_ = 0;
  int line_ = 1;
  bool strip_next_ = false;
  bool trim_next_ = false;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source, const std::string& name) {
  return Lexer(source, name).run();
}

}  // namespace perpend::jinja
