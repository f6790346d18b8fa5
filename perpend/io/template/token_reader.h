#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "perpend/io/template/lexer.h"

namespace perpend::jinja {

// A place in the tokens of a template, which those who parse it move forward. Both are borrowed.
class TokenReader {
 public:
  TokenReader(const std::vector<Token>& tokens, const std::string& name)
      : tokens_(tokens), name_(name) {}

  // Behind the last token stands that token, kEnd, again.
  const Token& peek(std::size_t ahead = 0) const;
  const Token& next();
  // Throws IoError "<name>: line <n>: <what>".
  [[noreturn]] void fail(const std::string& what) const;

  bool at_operator(std::string_view text, std::size_t ahead = 0) const;
  bool at_name(std::string_view text, std::size_t ahead = 0) const;
  bool accept_operator(std::string_view text);
  bool accept_name(std::string_view text);
  // These throw as fail() does.
  void expect_operator(std::string_view text);
  std::string expect_name();
  void expect(Token::Kind kind, std::string_view spelling);

  // Keeps a hostile template from exhausting the stack: one in each function that calls itself.
  class Depth {
   public:
    explicit Depth(TokenReader& reader);
    ~Depth() { --reader_.depth_; }
    Depth(const Depth&) = delete;
    Depth& operator=(const Depth&) = delete;

   private:
    TokenReader& reader_;
  };

 private:
  const std::vector<Token>& tokens_;
  const std::string& name_;
  std::size_t position_ = 0;
  int depth_ = 0;
};

}  // namespace perpend::jinja
