#pragma once

#include <optional>
#include <string>

#include "perpend/io/template/ast.h"
#include "perpend/io/template/token_reader.h"

namespace perpend::jinja {

// Reads expressions from where `reader` stands. All throw IoError naming template, line and what
// was expected.
class ExpressionParser {
 public:
  explicit ExpressionParser(TokenReader& reader) : reader_(reader) {}

  ExprPtr expression();
  // An expression without the conditional form.
  ExprPtr disjunction();
  // The rest of a tuple behind its first member.
  ExprPtr tuple_from(ExprPtr first);

 private:
  // Weakest binding first.
  ExprPtr conjunction();
  ExprPtr negation();
  ExprPtr comparison();
  ExprPtr sum();
  ExprPtr concatenation();
  ExprPtr product();
  ExprPtr power();
  ExprPtr unary(bool with_filters);
  ExprPtr filters_and_tests(ExprPtr expr);
  ExprPtr test(ExprPtr value);
  ExprPtr postfix(ExprPtr expr);
  ExprPtr subscript(ExprPtr object);
  ExprPtr primary();
  ExprPtr bracket();
  ExprPtr list();
  ExprPtr dict();

  std::optional<std::string> comparison_operator();
  bool begins_argument() const;
  void arguments(Expr& call);

  ExprPtr node(Expr::Kind kind, std::string name = "") const;
  ExprPtr binary(std::string name, ExprPtr left, ExprPtr right) const;
  ExprPtr literal(Value value) const;
  ExprPtr name_or_constant(const std::string& text) const;

  TokenReader& reader_;
};

}  // namespace perpend::jinja
