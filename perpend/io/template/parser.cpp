#include "perpend/io/template/parser.h"

#include <algorithm>
#include <initializer_list>
#include <iterator>
#include <utility>

#include "perpend/core/concat.h"
#include "perpend/io/template/expression_parser.h"
#include "perpend/io/template/token_reader.h"

namespace perpend::jinja {
namespace {

class StatementParser {
 public:
  StatementParser(const std::vector<Token>& tokens, const std::string& name)
      : reader_(tokens, name), expressions_(reader_) {}

  Block parse_template() {
    Block block = statements({});
    if (reader_.peek().kind != Token::Kind::kEnd) reader_.fail("unexpected end of a block");
    return block;
  }

 private:
  // Statements up to a block tag that begins with one of `ends`, whose name is left to be read.
  Block statements(std::initializer_list<std::string_view> ends) {
    const TokenReader::Depth depth(reader_);
    Block block;
    while (reader_.peek().kind != Token::Kind::kEnd) {
      if (reader_.peek().kind == Token::Kind::kText) {
        block.push_back(make(Statement::Kind::kText));
        block.back().text = reader_.next().text;
      } else if (reader_.peek().kind == Token::Kind::kOutputBegin) {
        reader_.next();
        block.push_back(make(Statement::Kind::kOutput));
        block.back().expr = expressions_.expression();
        reader_.expect(Token::Kind::kOutputEnd, "}}");
      } else {
        const std::string& keyword = reader_.peek(1).text;
        if (std::find(ends.begin(), ends.end(), keyword) != ends.end()) {
          reader_.next();
          return block;
        }
        reader_.next();
        statement(block);
      }
    }
    if (ends.size() > 0)
      reader_.fail(concat("unexpected end of the template, expected ", *ends.begin()));
    return block;
  }

  Statement make(Statement::Kind kind) const {
    Statement statement{};
    statement.kind = kind;
    statement.line = reader_.peek().line;
    return statement;
  }

  void statement(Block& block) {
    const std::string keyword = reader_.expect_name();
    if (keyword == "if") {
      block.push_back(if_statement());
    } else if (keyword == "for") {
      block.push_back(for_statement());
    } else if (keyword == "set") {
      block.push_back(set_statement());
    } else if (keyword == "macro") {
      block.push_back(macro_statement());
    } else if (keyword == "break" || keyword == "continue") {
      if (loops_ == 0) reader_.fail(concat(keyword, " outside of a loop"));
      block.push_back(
          make(keyword == "break" ? Statement::Kind::kBreak : Statement::Kind::kContinue));
      expect_block_end();
    } else if (keyword == "generation") {
      // Marks what the assistant wrote, for training; prints its body.
      expect_block_end();
      Block body = statements({"endgeneration"});
      reader_.expect_name();
      expect_block_end();
      std::move(body.begin(), body.end(), std::back_inserter(block));
    } else {
      reader_.fail(concat("unknown tag '", keyword,
                          "', expected if, for, set, macro, break, continue, generation or raw"));
    }
  }

  Statement if_statement() {
    Statement statement = make(Statement::Kind::kIf);
    statement.expr = expressions_.expression();
    expect_block_end();
    statement.body = statements({"endif", "elif", "else"});
    const std::string end = reader_.expect_name();
    if (end == "elif") {
      const TokenReader::Depth depth(reader_);
      statement.otherwise.push_back(if_statement());
      return statement;
    }
    if (end == "else") {
      expect_block_end();
      statement.otherwise = statements({"endif"});
      reader_.expect_name();
    }
    expect_block_end();
    return statement;
  }

  Statement for_statement() {
    Statement statement = make(Statement::Kind::kFor);
    do {
      statement.names.push_back(reader_.expect_name());
    } while (reader_.accept_operator(","));
    if (!reader_.accept_name("in")) reader_.fail("expected 'in'");
    // Without the conditional form, whose `if` would swallow the loop's filter.
    statement.expr = expressions_.disjunction();
    if (reader_.accept_name("if")) statement.filter = expressions_.expression();
    expect_block_end();
    ++loops_;
    statement.body = statements({"endfor", "else"});
    --loops_;
    if (reader_.expect_name() == "else") {
      expect_block_end();
      statement.otherwise = statements({"endfor"});
      reader_.expect_name();
    }
    expect_block_end();
    return statement;
  }

  Statement set_statement() {
    Statement statement = make(Statement::Kind::kSet);
    do {
      statement.names.push_back(reader_.expect_name());
    } while (reader_.accept_operator(","));
    if (reader_.accept_operator(".")) statement.attribute = reader_.expect_name();
    if (reader_.accept_operator("=")) {
      statement.expr = expressions_.expression();
      if (reader_.at_operator(","))
        statement.expr = expressions_.tuple_from(std::move(statement.expr));
      expect_block_end();
      return statement;
    }
    expect_block_end();
    statement.body = statements({"endset"});
    reader_.expect_name();
    expect_block_end();
    return statement;
  }

  Statement macro_statement() {
    Statement statement = make(Statement::Kind::kMacro);
    statement.names.push_back(reader_.expect_name());
    reader_.expect_operator("(");
    while (!reader_.accept_operator(")")) {
      Parameter parameter;
      parameter.name = reader_.expect_name();
      if (reader_.accept_operator("=")) parameter.standard = expressions_.expression();
      statement.parameters.push_back(std::move(parameter));
      if (!reader_.at_operator(")")) reader_.expect_operator(",");
    }
    expect_block_end();
    const int loops = std::exchange(loops_, 0);
    statement.body = statements({"endmacro"});
    loops_ = loops;
    reader_.expect_name();
    expect_block_end();
    return statement;
  }

  void expect_block_end() { reader_.expect(Token::Kind::kBlockEnd, "%}"); }

  TokenReader reader_;
  ExpressionParser expressions_;
  int loops_ = 0;
};

}  // namespace

Block parse(const std::vector<Token>& tokens, const std::string& name) {
  return StatementParser(tokens, name).parse_template();
}

}  // namespace perpend::jinja
