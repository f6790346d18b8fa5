#include "perpend/io/template/parser.h"

#include <algorithm>
#include <cstdlib>
#include <initializer_list>
#include <optional>

#include "perpend/core/error.h"

namespace perpend::jinja {
namespace {

using TokenKind = Token::Kind;

constexpr int kMaxDepth = 200;

class Parser {
 public:
  Parser(const std::vector<Token>& tokens, const std::string& name)
      : tokens_(tokens), name_(name) {}

  Block parse_template() {
    Block block = statements({});
    if (peek().kind != TokenKind::kEnd) fail("unexpected end of a block");
    return block;
  }

 private:
  // --- tokens
  // --------------------------------------------------------------------------------------

  const Token& peek(std::size_t ahead = 0) const {
    return tokens_[std::min(position_ + ahead, tokens_.size() - 1)];
  }
  const Token& next() {
    const Token& token = peek();
    if (position_ + 1 < tokens_.size()) ++position_;
    return token;
  }
  [[noreturn]] void fail(const std::string& what) const {
    throw IoError(concat(name_, ": line ", peek().line, ": ", what));
  }
  bool at(TokenKind kind, std::string_view text) const {
    return peek().kind == kind && peek().text == text;
  }
  bool accept(TokenKind kind, std::string_view text) {
    if (!at(kind, text)) return false;
    next();
    return true;
  }
  bool accept_operator(std::string_view text) { return accept(TokenKind::kOperator, text); }
  bool accept_name(std::string_view text) { return accept(TokenKind::kName, text); }
  void expect_operator(std::string_view text) {
    if (!accept_operator(text)) fail(concat("expected '", text, "', found '", peek().text, "'"));
  }
  std::string expect_name() {
    if (peek().kind != TokenKind::kName) fail(concat("expected a name, found '", peek().text, "'"));
    return next().text;
  }
  void expect_block_end() {
    if (peek().kind != TokenKind::kBlockEnd) fail(concat("expected %}, found '", peek().text, "'"));
    next();
  }

  // --- statements
  // ------------------------------------------------------------------------------------

  // Statements up to a block tag that begins with one of `ends`, whose name is left to be read.
  Block statements(std::initializer_list<std::string_view> ends) {
    const Depth depth(*this);
    Block block;
    while (peek().kind != TokenKind::kEnd) {
      if (peek().kind == TokenKind::kText) {
        block.push_back(make(Statement::Kind::kText));
        block.back().text = next().text;
      } else if (peek().kind == TokenKind::kOutputBegin) {
        next();
        block.push_back(make(Statement::Kind::kOutput));
        block.back().expr = expression();
        if (peek().kind != TokenKind::kOutputEnd)
          fail(concat("expected }}, found '", peek().text, "'"));
        next();
      } else {
        const std::string& keyword = peek(1).text;
        if (std::find(ends.begin(), ends.end(), keyword) != ends.end()) {
          next();
          return block;
        }
        next();
        statement(block);
      }
    }
    if (ends.size() > 0) fail(concat("unexpected end of the template, expected ", *ends.begin()));
    return block;
  }

  Statement make(Statement::Kind kind) const {
    Statement statement{};
    statement.kind = kind;
    statement.line = peek().line;
    return statement;
  }

  void statement(Block& block) {
    const std::string keyword = expect_name();
    if (keyword == "if") {
      block.push_back(if_statement());
    } else if (keyword == "for") {
      block.push_back(for_statement());
    } else if (keyword == "set") {
      block.push_back(set_statement());
    } else if (keyword == "macro") {
      block.push_back(macro_statement());
    } else if (keyword == "break" || keyword == "continue") {
      if (loops_ == 0) fail(concat(keyword, " outside of a loop"));
      block.push_back(
          make(keyword == "break" ? Statement::Kind::kBreak : Statement::Kind::kContinue));
      expect_block_end();
    } else if (keyword == "generation") {
      // Marks what the assistant wrote, for training; prints its body.
      expect_block_end();
      Block body = statements({"endgeneration"});
      expect_name();
      expect_block_end();
      std::move(body.begin(), body.end(), std::back_inserter(block));
    } else {
      fail(concat("unknown tag '", keyword,
                  "', expected if, for, set, macro, break, continue, generation or raw"));
    }
  }

  Statement if_statement() {
    Statement statement = make(Statement::Kind::kIf);
    statement.expr = expression();
    expect_block_end();
    statement.body = statements({"endif", "elif", "else"});
    const std::string end = expect_name();
    if (end == "elif") {
      const Depth depth(*this);
      statement.otherwise.push_back(if_statement());
      return statement;
    }
    if (end == "else") {
      expect_block_end();
      statement.otherwise = statements({"endif"});
      expect_name();
    }
    expect_block_end();
    return statement;
  }

  Statement for_statement() {
    Statement statement = make(Statement::Kind::kFor);
    do {
      statement.names.push_back(expect_name());
    } while (accept_operator(","));
    if (!accept_name("in")) fail("expected 'in'");
    // Without the conditional form, whose `if` would swallow the loop's filter.
    statement.expr = disjunction();
    if (accept_name("if")) statement.filter = expression();
    expect_block_end();
    ++loops_;
    statement.body = statements({"endfor", "else"});
    --loops_;
    if (expect_name() == "else") {
      expect_block_end();
      statement.otherwise = statements({"endfor"});
      expect_name();
    }
    expect_block_end();
    return statement;
  }

  Statement set_statement() {
    Statement statement = make(Statement::Kind::kSet);
    do {
      statement.names.push_back(expect_name());
    } while (accept_operator(","));
    if (accept_operator(".")) statement.attribute = expect_name();
    if (accept_operator("=")) {
      statement.expr = expression();
      if (at(TokenKind::kOperator, ",")) statement.expr = tuple_from(std::move(statement.expr));
      expect_block_end();
      return statement;
    }
    expect_block_end();
    statement.body = statements({"endset"});
    expect_name();
    expect_block_end();
    return statement;
  }

  Statement macro_statement() {
    Statement statement = make(Statement::Kind::kMacro);
    statement.names.push_back(expect_name());
    expect_operator("(");
    while (!accept_operator(")")) {
      Parameter parameter;
      parameter.name = expect_name();
      if (accept_operator("=")) parameter.standard = expression();
      statement.parameters.push_back(std::move(parameter));
      if (!at(TokenKind::kOperator, ")")) expect_operator(",");
    }
    expect_block_end();
    const int loops = std::exchange(loops_, 0);
    statement.body = statements({"endmacro"});
    loops_ = loops;
    expect_name();
    expect_block_end();
    return statement;
  }

  // --- expressions, weakest binding first
  // -------------------------------------------------------------

  ExprPtr node(Expr::Kind kind, std::string name = "") const {
    auto expr = std::make_shared<Expr>();
    expr->kind = kind;
    expr->line = peek().line;
    expr->name = std::move(name);
    return expr;
  }
  ExprPtr binary(std::string name, ExprPtr left, ExprPtr right) const {
    ExprPtr expr = node(Expr::Kind::kBinary, std::move(name));
    expr->children.push_back(std::move(left));
    expr->children.push_back(std::move(right));
    return expr;
  }

  ExprPtr expression() {
    const Depth depth(*this);
    ExprPtr value = disjunction();
    if (!accept_name("if")) return value;
    ExprPtr expr = node(Expr::Kind::kConditional);
    expr->children.push_back(std::move(value));
    expr->children.push_back(disjunction());
    expr->children.push_back(accept_name("else") ? expression() : nullptr);
    return expr;
  }
  ExprPtr disjunction() {
    ExprPtr left = conjunction();
    while (accept_name("or")) left = binary("or", std::move(left), conjunction());
    return left;
  }
  ExprPtr conjunction() {
    ExprPtr left = negation();
    while (accept_name("and")) left = binary("and", std::move(left), negation());
    return left;
  }
  ExprPtr negation() {
    const Depth depth(*this);
    if (!accept_name("not")) return comparison();
    ExprPtr expr = node(Expr::Kind::kUnary, "not");
    expr->children.push_back(negation());
    return expr;
  }

  std::optional<std::string> comparison_operator() {
    for (std::string_view text : {"==", "!=", "<=", ">=", "<", ">"}) {
      if (accept_operator(text)) return std::string(text);
    }
    if (accept_name("in")) return "in";
    if (at(TokenKind::kName, "not") && peek(1).kind == TokenKind::kName && peek(1).text == "in") {
      next();
      next();
      return "not in";
    }
    return std::nullopt;
  }
  // a < b < c is (a < b) and (b < c).
  ExprPtr comparison() {
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

  ExprPtr sum() {
    ExprPtr left = concatenation();
    while (at(TokenKind::kOperator, "+") || at(TokenKind::kOperator, "-")) {
      const std::string name = next().text;
      left = binary(name, std::move(left), concatenation());
    }
    return left;
  }
  ExprPtr concatenation() {
    ExprPtr left = product();
    while (accept_operator("~")) left = binary("~", std::move(left), product());
    return left;
  }
  ExprPtr product() {
    ExprPtr left = power();
    while (at(TokenKind::kOperator, "*") || at(TokenKind::kOperator, "/") ||
           at(TokenKind::kOperator, "//") || at(TokenKind::kOperator, "%")) {
      const std::string name = next().text;
      left = binary(name, std::move(left), power());
    }
    return left;
  }
  // A sign binds tighter than a power here: -2 ** 2 is 4.
  ExprPtr power() {
    ExprPtr left = unary();
    while (accept_operator("**")) left = binary("**", std::move(left), unary());
    return left;
  }
  // A filter behind a signed value takes the sign along.
  ExprPtr unary(bool with_filters = true) {
    const Depth depth(*this);
    ExprPtr expr;
    if (at(TokenKind::kOperator, "-") || at(TokenKind::kOperator, "+")) {
      expr = node(Expr::Kind::kUnary, next().text);
      expr->children.push_back(unary(false));
    } else {
      expr = postfix(primary());
    }
    return with_filters ? filters_and_tests(std::move(expr)) : std::move(expr);
  }

  ExprPtr filters_and_tests(ExprPtr expr) {
    while (true) {
      if (accept_operator("|")) {
        ExprPtr filter = node(Expr::Kind::kFilter, expect_name());
        filter->children.push_back(std::move(expr));
        if (accept_operator("(")) arguments(*filter);
        expr = std::move(filter);
      } else if (accept_name("is")) {
        expr = test(std::move(expr));
      } else {
        return expr;
      }
    }
  }

  ExprPtr test(ExprPtr value) {
    const bool negated = accept_name("not");
    ExprPtr expr = node(Expr::Kind::kTest, expect_name());
    expr->children.push_back(std::move(value));
    if (accept_operator("(")) {
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
  bool begins_argument() const {
    if (peek().kind == TokenKind::kName) {
      constexpr std::string_view kWords[] = {"and", "or", "else", "is", "if", "not", "in"};
      return std::find(std::begin(kWords), std::end(kWords), peek().text) == std::end(kWords);
    }
    return peek().kind == TokenKind::kString || peek().kind == TokenKind::kInteger ||
           peek().kind == TokenKind::kFloat || at(TokenKind::kOperator, "[") ||
           at(TokenKind::kOperator, "{");
  }

  ExprPtr postfix(ExprPtr expr) {
    while (true) {
      if (accept_operator(".")) {
        if (peek().kind == TokenKind::kInteger) {
          ExprPtr item = node(Expr::Kind::kItem);
          item->children.push_back(std::move(expr));
          item->children.push_back(primary());
          expr = std::move(item);
          continue;
        }
        ExprPtr attribute = node(Expr::Kind::kAttribute, expect_name());
        attribute->children.push_back(std::move(expr));
        expr = std::move(attribute);
      } else if (accept_operator("[")) {
        expr = subscript(std::move(expr));
      } else if (accept_operator("(")) {
        ExprPtr call = node(Expr::Kind::kCall);
        call->children.push_back(std::move(expr));
        arguments(*call);
        expr = std::move(call);
      } else {
        return expr;
      }
    }
  }

  ExprPtr subscript(ExprPtr object) {
    const auto bound = [&]() -> ExprPtr {
      if (at(TokenKind::kOperator, ":") || at(TokenKind::kOperator, "]")) return nullptr;
      return expression();
    };
    ExprPtr first = bound();
    if (!at(TokenKind::kOperator, ":")) {
      if (!first) fail("expected an index");
      expect_operator("]");
      ExprPtr item = node(Expr::Kind::kItem);
      item->children.push_back(std::move(object));
      item->children.push_back(std::move(first));
      return item;
    }
    ExprPtr slice = node(Expr::Kind::kSlice);
    slice->children.push_back(std::move(object));
    slice->children.push_back(std::move(first));
    expect_operator(":");
    slice->children.push_back(bound());
    slice->children.push_back(accept_operator(":") ? bound() : nullptr);
    expect_operator("]");
    return slice;
  }

  // Arguments up to the closing bracket, after the opening one.
  void arguments(Expr& call) {
    while (!accept_operator(")")) {
      if (peek().kind == TokenKind::kName && peek(1).kind == TokenKind::kOperator &&
          peek(1).text == "=") {
        std::string name = next().text;
        next();
        call.named.emplace_back(std::move(name), expression());
      } else {
        if (!call.named.empty()) fail("an unnamed argument follows a named one");
        call.children.push_back(expression());
      }
      if (!at(TokenKind::kOperator, ")")) expect_operator(",");
    }
  }

  ExprPtr primary() {
    const Token& token = peek();
    switch (token.kind) {
      case TokenKind::kString: {
        std::string text;
        while (peek().kind == TokenKind::kString) text += next().text;
        return literal(text);
      }
      case TokenKind::kInteger: {
        const std::string& text = next().text;
        if (text.size() > 18) fail("the number is too large");
        return literal(std::int64_t{std::strtoll(text.c_str(), nullptr, 10)});
      }
      case TokenKind::kFloat:
        return literal(std::strtod(next().text.c_str(), nullptr));
      case TokenKind::kName:
        return name_or_constant(next().text);
      default:
        break;
    }
    if (accept_operator("(")) return bracket();
    if (accept_operator("[")) {
      ExprPtr list = node(Expr::Kind::kList);
      while (!accept_operator("]")) {
        list->children.push_back(expression());
        if (!at(TokenKind::kOperator, "]")) expect_operator(",");
      }
      return list;
    }
    if (accept_operator("{")) {
      ExprPtr dict = node(Expr::Kind::kDict);
      while (!accept_operator("}")) {
        dict->children.push_back(expression());
        expect_operator(":");
        dict->children.push_back(expression());
        if (!at(TokenKind::kOperator, "}")) expect_operator(",");
      }
      return dict;
    }
    fail(concat("expected an expression, found '", token.text, "'"));
  }

  ExprPtr literal(Value value) const {
    ExprPtr expr = node(Expr::Kind::kLiteral);
    expr->value = std::move(value);
    return expr;
  }
  ExprPtr name_or_constant(const std::string& text) const {
    if (text == "true" || text == "True") return literal(true);
    if (text == "false" || text == "False") return literal(false);
    if (text == "none" || text == "None") return literal(None{});
    return node(Expr::Kind::kName, text);
  }
  // ( expression ) or a tuple.
  ExprPtr bracket() {
    if (accept_operator(")")) return node(Expr::Kind::kList, "tuple");
    ExprPtr first = expression();
    if (at(TokenKind::kOperator, ",")) first = tuple_from(std::move(first));
    expect_operator(")");
    return first;
  }
  ExprPtr tuple_from(ExprPtr first) {
    ExprPtr list = node(Expr::Kind::kList, "tuple");
    list->children.push_back(std::move(first));
    while (accept_operator(",")) {
      if (at(TokenKind::kOperator, ")") || peek().kind == TokenKind::kBlockEnd) break;
      list->children.push_back(expression());
    }
    return list;
  }

  // Keeps a hostile template from exhausting the stack.
  class Depth {
   public:
    explicit Depth(Parser& parser) : parser_(parser) {
      if (++parser_.depth_ > kMaxDepth) parser_.fail(concat("nested deeper than ", kMaxDepth));
    }
    ~Depth() { --parser_.depth_; }
    Depth(const Depth&) = delete;
    Depth& operator=(const Depth&) = delete;

   private:
    Parser& parser_;
  };

  const std::vector<Token>& tokens_;
  const std::string& name_;
  std::size_t position_ = 0;
  int depth_ = 0;
  int loops_ = 0;
};

}  // namespace

Block parse(const std::vector<Token>& tokens, const std::string& name) {
  return Parser(tokens, name).parse_template();
}

}  // namespace perpend::jinja
