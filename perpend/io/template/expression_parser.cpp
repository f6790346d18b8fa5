#include "perpend/io/template/expression_parser.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "perpend/core/concat.h"

namespace perpend::jinja {

ExprPtr ExpressionParser::node(Expr::Kind kind, std::string name) const {
  auto expr = std::make_shared<Expr>();
  expr->kind = kind;
  expr->line = reader_.peek().line;
  expr->name = std::move(name);
  return expr;
}

ExprPtr ExpressionParser::binary(std::string name, ExprPtr left, ExprPtr right) const {
  ExprPtr expr = node(Expr::Kind::kBinary, std::move(name));
  expr->children.push_back(std::move(left));
  expr->children.push_back(std::move(right));
  return expr;
}

ExprPtr ExpressionParser::expression() {
  const TokenReader::Depth depth(reader_);
  ExprPtr value = disjunction();
  if (!reader_.accept_name("if")) return value;
  ExprPtr expr = node(Expr::Kind::kConditional);
  expr->children.push_back(std::move(value));
  expr->children.push_back(disjunction());
  expr->children.push_back(reader_.accept_name("else") ? expression() : nullptr);
  return expr;
}

ExprPtr ExpressionParser::disjunction() {
  ExprPtr left = conjunction();
  while (reader_.accept_name("or")) left = binary("or", std::move(left), conjunction());
  return left;
}

ExprPtr ExpressionParser::conjunction() {
  ExprPtr left = negation();
  while (reader_.accept_name("and")) left = binary("and", std::move(left), negation());
  return left;
}

ExprPtr ExpressionParser::negation() {
  const TokenReader::Depth depth(reader_);
  if (!reader_.accept_name("not")) return comparison();
  ExprPtr expr = node(Expr::Kind::kUnary, "not");
  expr->children.push_back(negation());
  return expr;
}

std::optional<std::string> ExpressionParser::comparison_operator() {
  for (std::string_view text : {"==", "!=", "<=", ">=", "<", ">"}) {
    if (reader_.accept_operator(text)) return std::string(text);
  }
  if (reader_.accept_name("in")) return "in";
  if (reader_.at_name("not") && reader_.at_name("in", 1)) {
    reader_.next();
    reader_.next();
    return "not in";
  }
  return std::nullopt;
}

// a < b < c is (a < b) and (b < c).
ExprPtr ExpressionParser::comparison() {
  ExprPtr left = sum();
  ExprPtr result;
  while (const auto name = comparison_operator()) {
    ExprPtr right = sum();
    ExprPtr pair = binary(*name, left, right);
    result = result ? binary("and", result, pair) : pair;
    left = right;
  }
  return result ? result : left;
}

ExprPtr ExpressionParser::sum() {
  ExprPtr left = concatenation();
  while (reader_.at_operator("+") || reader_.at_operator("-")) {
    const std::string name = reader_.next().text;
    left = binary(name, std::move(left), concatenation());
  }
  return left;
}

ExprPtr ExpressionParser::concatenation() {
  ExprPtr left = product();
  while (reader_.accept_operator("~")) left = binary("~", std::move(left), product());
  return left;
}

ExprPtr ExpressionParser::product() {
  ExprPtr left = power();
  while (reader_.at_operator("*") || reader_.at_operator("/") || reader_.at_operator("//") ||
         reader_.at_operator("%")) {
    const std::string name = reader_.next().text;
    left = binary(name, std::move(left), power());
  }
  return left;
}

// A sign binds tighter than a power here: -2 ** 2 is 4.
ExprPtr ExpressionParser::power() {
  ExprPtr left = unary(true);
  while (reader_.accept_operator("**")) left = binary("**", std::move(left), unary(true));
  return left;
}

// A filter behind a signed value takes the sign along.
ExprPtr ExpressionParser::unary(bool with_filters) {
  const TokenReader::Depth depth(reader_);
  ExprPtr expr;
  if (reader_.at_operator("-") || reader_.at_operator("+")) {
    expr = node(Expr::Kind::kUnary, reader_.next().text);
    expr->children.push_back(unary(false));
  } else {
    expr = postfix(primary());
  }
  return with_filters ? filters_and_tests(std::move(expr)) : std::move(expr);
}

ExprPtr ExpressionParser::filters_and_tests(ExprPtr expr) {
  while (true) {
    if (reader_.accept_operator("|")) {
      ExprPtr filter = node(Expr::Kind::kFilter, reader_.expect_name());
      filter->children.push_back(std::move(expr));
      if (reader_.accept_operator("(")) arguments(*filter);
      expr = std::move(filter);
    } else if (reader_.accept_name("is")) {
      expr = test(std::move(expr));
    } else {
      return expr;
    }
  }
}

ExprPtr ExpressionParser::test(ExprPtr value) {
  const bool negated = reader_.accept_name("not");
  ExprPtr expr = node(Expr::Kind::kTest, reader_.expect_name());
  expr->children.push_back(std::move(value));
  if (reader_.accept_operator("(")) {
    arguments(*expr);
  } else if (begins_argument()) {
    expr->children.push_back(postfix(primary()));
  }
  if (!negated) return expr;
  ExprPtr inverse = node(Expr::Kind::kUnary, "not");
  inverse->children.push_back(std::move(expr));
  return inverse;
}

// `x is divisibleby 3`: one argument may follow without brackets.
bool ExpressionParser::begins_argument() const {
  if (reader_.peek().kind == Token::Kind::kName) {
    constexpr std::string_view kWords[] = {"and", "or", "else", "is", "if", "not", "in"};
    return std::find(std::begin(kWords), std::end(kWords), reader_.peek().text) == std::end(kWords);
  }
  return reader_.peek().kind == Token::Kind::kString ||
         reader_.peek().kind == Token::Kind::kInteger ||
         reader_.peek().kind == Token::Kind::kFloat || reader_.at_operator("[") ||
         reader_.at_operator("{");
}

ExprPtr ExpressionParser::postfix(ExprPtr expr) {
  while (true) {
    if (reader_.accept_operator(".")) {
      if (reader_.peek().kind == Token::Kind::kInteger) {
        ExprPtr item = node(Expr::Kind::kItem);
        item->children.push_back(std::move(expr));
        item->children.push_back(primary());
        expr = std::move(item);
        continue;
      }
      ExprPtr attribute = node(Expr::Kind::kAttribute, reader_.expect_name());
      attribute->children.push_back(std::move(expr));
      expr = std::move(attribute);
    } else if (reader_.accept_operator("[")) {
      expr = subscript(std::move(expr));
    } else if (reader_.accept_operator("(")) {
      ExprPtr call = node(Expr::Kind::kCall);
      call->children.push_back(std::move(expr));
      arguments(*call);
      expr = std::move(call);
    } else {
      return expr;
    }
  }
}

ExprPtr ExpressionParser::subscript(ExprPtr object) {
  const auto bound = [&]() -> ExprPtr {
    if (reader_.at_operator(":") || reader_.at_operator("]")) return nullptr;
    return expression();
  };
  ExprPtr first = bound();
  if (!reader_.at_operator(":")) {
    if (!first) reader_.fail("expected an index");
    reader_.expect_operator("]");
    ExprPtr item = node(Expr::Kind::kItem);
    item->children.push_back(std::move(object));
    item->children.push_back(std::move(first));
    return item;
  }
  ExprPtr slice = node(Expr::Kind::kSlice);
  slice->children.push_back(std::move(object));
  slice->children.push_back(std::move(first));
  reader_.expect_operator(":");
  slice->children.push_back(bound());
  slice->children.push_back(reader_.accept_operator(":") ? bound() : nullptr);
  reader_.expect_operator("]");
  return slice;
}

// Arguments up to the closing bracket, after the opening one.
void ExpressionParser::arguments(Expr& call) {
  while (!reader_.accept_operator(")")) {
    if (reader_.peek().kind == Token::Kind::kName && reader_.at_operator("=", 1)) {
      std::string name = reader_.next().text;
      reader_.next();
      call.named.emplace_back(std::move(name), expression());
    } else {
      if (!call.named.empty()) reader_.fail("an unnamed argument follows a named one");
      call.children.push_back(expression());
    }
    if (!reader_.at_operator(")")) reader_.expect_operator(",");
  }
}

ExprPtr ExpressionParser::primary() {
  const Token& token = reader_.peek();
  switch (token.kind) {
    case Token::Kind::kString: {
      std::string text;
      while (reader_.peek().kind == Token::Kind::kString) text += reader_.next().text;
      return literal(text);
    }
    case Token::Kind::kInteger: {
      const std::string& text = reader_.next().text;
      if (text.size() > 18) reader_.fail("the number is too large");
      return literal(std::int64_t{std::strtoll(text.c_str(), nullptr, 10)});
    }
    case Token::Kind::kFloat:
      return literal(std::strtod(reader_.next().text.c_str(), nullptr));
    case Token::Kind::kName:
      return name_or_constant(reader_.next().text);
    default:
      break;
  }
  if (reader_.accept_operator("(")) return bracket();
  if (reader_.accept_operator("[")) return list();
  if (reader_.accept_operator("{")) return dict();
  reader_.fail(concat("expected an expression, found '", token.text, "'"));
}

ExprPtr ExpressionParser::literal(Value value) const {
  ExprPtr expr = node(Expr::Kind::kLiteral);
  expr->value = std::move(value);
  return expr;
}

ExprPtr ExpressionParser::name_or_constant(const std::string& text) const {
  if (text == "true" || text == "True") return literal(true);
  if (text == "false" || text == "False") return literal(false);
  if (text == "none" || text == "None") return literal(None{});
  return node(Expr::Kind::kName, text);
}

// Behind the opening bracket, as list() and dict(): an expression or a tuple.
ExprPtr ExpressionParser::bracket() {
  if (reader_.accept_operator(")")) return node(Expr::Kind::kList, "tuple");
  ExprPtr first = expression();
  if (reader_.at_operator(",")) first = tuple_from(std::move(first));
  reader_.expect_operator(")");
  return first;
}

ExprPtr ExpressionParser::list() {
  ExprPtr list = node(Expr::Kind::kList);
  while (!reader_.accept_operator("]")) {
    list->children.push_back(expression());
    if (!reader_.at_operator("]")) reader_.expect_operator(",");
  }
  return list;
}

ExprPtr ExpressionParser::dict() {
  ExprPtr dict = node(Expr::Kind::kDict);
  while (!reader_.accept_operator("}")) {
    dict->children.push_back(expression());
    reader_.expect_operator(":");
    dict->children.push_back(expression());
    if (!reader_.at_operator("}")) reader_.expect_operator(",");
  }
  return dict;
}

ExprPtr ExpressionParser::tuple_from(ExprPtr first) {
  ExprPtr list = node(Expr::Kind::kList, "tuple");
  list->children.push_back(std::move(first));
  while (reader_.accept_operator(",")) {
    if (reader_.at_operator(")") || reader_.peek().kind == Token::Kind::kBlockEnd) break;
    list->children.push_back(expression());
  }
  return list;
}

}  // namespace perpend::jinja
