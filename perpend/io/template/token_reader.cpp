#include "perpend/io/template/token_reader.h"

#include <algorithm>

#include "perpend/core/error.h"

namespace perpend::jinja {
namespace {

constexpr int kMaxSyntaxDepth = 200;

bool is(const Token& token, Token::Kind kind, std::string_view text) {
  return token.kind == kind && token.text == text;
}

}  // namespace

const Token& TokenReader::peek(std::size_t ahead) const {
  return tokens_[std::min(position_ + ahead, tokens_.size() - 1)];
}

const Token& TokenReader::next() {
  const Token& token = peek();
  if (position_ + 1 < tokens_.size()) ++position_;
  return token;
}

void TokenReader::fail(const std::string& what) const {
  throw IoError(concat(name_, ": line ", peek().line, ": ", what));
}

bool TokenReader::at_operator(std::string_view text, std::size_t ahead) const {
  return is(peek(ahead), Token::Kind::kOperator, text);
}

bool TokenReader::at_name(std::string_view text, std::size_t ahead) const {
  return is(peek(ahead), Token::Kind::kName, text);
}

bool TokenReader::accept_operator(std::string_view text) {
  const bool found = at_operator(text);
  if (found) next();
  return found;
}

bool TokenReader::accept_name(std::string_view text) {
  const bool found = at_name(text);
  if (found) next();
  return found;
}

void TokenReader::expect_operator(std::string_view text) {
  if (!accept_operator(text)) fail(concat("expected '", text, "', found '", peek().text, "'"));
}

std::string TokenReader::expect_name() {
  if (peek().kind != Token::Kind::kName) fail(concat("expected a name, found '", peek().text, "'"));
  return next().text;
}

void TokenReader::expect(Token::Kind kind, std::string_view spelling) {
  if (peek().kind != kind) fail(concat("expected ", spelling, ", found '", peek().text, "'"));
  next();
}

TokenReader::Depth::Depth(TokenReader& reader) : reader_(reader) {
  if (++reader_.depth_ > kMaxSyntaxDepth)
    reader_.fail(concat("nested deeper than ", kMaxSyntaxDepth));
}

}  // namespace perpend::jinja
