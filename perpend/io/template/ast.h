#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "perpend/io/template/value.h"

namespace perpend::jinja {

struct Expr;
// Shared, since the middle of a chained comparison belongs to two of them.
using ExprPtr = std::shared_ptr<Expr>;

// An expression. Which members mean something depends on the kind.
struct Expr {
  enum class Kind {
    kLiteral,      // value
    kName,         // name
    kList,         // children; name "tuple" for a tuple
    kDict,         // children: key, value, key, value ...
    kAttribute,    // children[0] . name
    kItem,         // children[0] [ children[1] ]
    kSlice,        // children[0] [ 1 : 2 : 3 ], null where left out
    kCall,         // children[0] ( children[1..], named )
    kFilter,       // children[0] | name ( children[1..], named )
    kTest,         // children[0] is name ( children[1..] )
    kUnary,        // name children[0]
    kBinary,       // children[0] name children[1]
    kConditional,  // children[0] if children[1] else children[2] (null when left out)
  };

  Kind kind;
  int line = 0;
  Value value;
  std::string name;
  std::vector<ExprPtr> children;
  std::vector<std::pair<std::string, ExprPtr>> named;
};

struct Statement;
using Block = std::vector<Statement>;

// A parameter of a macro with its default (null when there is none).
struct Parameter {
  std::string name;
  ExprPtr standard;
};

struct Statement {
  enum class Kind {
    kText,    // text
    kOutput,  // expr
    kIf,      // expr, body, otherwise
    kFor,     // names in expr [if filter], body, otherwise
    kSet,     // names = expr, or names[0] = the text of body; names[0].attribute = expr
    kMacro,   // names[0], parameters, body
    kBreak,
    kContinue,
  };

  Kind kind;
  int line = 0;
  std::string text;
  std::string attribute;
  std::vector<std::string> names;
  ExprPtr expr;
  ExprPtr filter;
  std::vector<Parameter> parameters;
  Block body;
  Block otherwise;
};

// A macro with the template that holds its body.
struct Macro {
  const Statement* definition = nullptr;
};

}  // namespace perpend::jinja
