#include "perpend/io/template/evaluator.h"

#include <algorithm>
#include <utility>

#include "perpend/core/error.h"
#include "perpend/io/template/utf8.h"

namespace perpend::jinja {
namespace {

constexpr std::int64_t kMaxSteps = 5'000'000;
constexpr std::size_t kMaxOutput = 64U << 20;
constexpr int kMaxScopes = 150;

// An error that already tells its line.
class LocatedError : public InvalidArgument {
 public:
  using InvalidArgument::InvalidArgument;
};

enum class Flow { kNext, kBreak, kContinue };

class Evaluator final : public Functions {
 public:
  Evaluator(const Dict& context, const std::string& name) : name_(name) {
    scopes_.push_back(context);
  }

  std::string render(const Block& block) {
    run(block);
    return std::move(output_);
  }

  Value apply_filter(const std::string& name, const Value& value,
                     const Arguments& arguments) override {
    return call_filter(name, value, arguments, *this);
  }
  bool apply_test(const std::string& name, const Value& value,
                  const Arguments& arguments) override {
    return call_test(name, value, arguments);
  }

 private:
  // --- statements

  void step(std::int64_t count = 1) {
    steps_ += count;
    if (steps_ > kMaxSteps) throw InvalidArgument("the template runs too long");
  }
  void print(std::string_view text) {
    if (output_.size() + text.size() > kMaxOutput) {
      throw InvalidArgument("the template's output is too long");
    }
    output_ += text;
  }

  Flow run(const Block& block) {
    for (const Statement& statement : block) {
      try {
        step();
        const Flow flow = run(statement);
        if (flow != Flow::kNext) return flow;
      } catch (const LocatedError&) {
        throw;
      } catch (const Error& error) {
        throw LocatedError(concat(name_, ": line ", statement.line, ": ", error.what()));
      }
    }
    return Flow::kNext;
  }

  Flow run(const Statement& statement) {
    switch (statement.kind) {
      case Statement::Kind::kText:
        print(statement.text);
        return Flow::kNext;
      case Statement::Kind::kOutput:
        print(evaluate(*statement.expr).str());
        return Flow::kNext;
      case Statement::Kind::kIf:
        return run(evaluate(*statement.expr).truth() ? statement.body : statement.otherwise);
      case Statement::Kind::kFor:
        run_loop(statement);
        return Flow::kNext;
      case Statement::Kind::kSet:
        run_set(statement);
        return Flow::kNext;
      case Statement::Kind::kMacro:
        assign(statement.names.front(), std::make_shared<const Macro>(Macro{&statement}));
        return Flow::kNext;
      case Statement::Kind::kBreak:
        return Flow::kBreak;
      case Statement::Kind::kContinue:
        return Flow::kContinue;
    }
    bug("Evaluator: unknown statement");
  }

  // A scope of its own for the names set inside.
  class Scope {
   public:
    explicit Scope(Evaluator& evaluator) : evaluator_(evaluator) {
      if (evaluator_.scopes_.size() > kMaxScopes) throw InvalidArgument("nested too deep");
      evaluator_.scopes_.emplace_back();
    }
    ~Scope() { evaluator_.scopes_.pop_back(); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Evaluator& evaluator_;
  };

  void unpack(const std::vector<std::string>& names, const Value& value) {
    if (names.size() == 1) return assign(names.front(), value);
    const auto parts = iterate(value);
    if (parts.size() != names.size()) {
      throw InvalidArgument(concat("expected ", names.size(), " values, found ", parts.size()));
    }
    for (std::size_t i = 0; i < names.size(); ++i) assign(names[i], parts[i]);
  }

  std::vector<Value> loop_items(const Statement& statement) {
    std::vector<Value> items = iterate(evaluate(*statement.expr));
    if (!statement.filter) return items;
    std::vector<Value> kept;
    for (Value& item : items) {
      const Scope scope(*this);
      unpack(statement.names, item);
      step();
      if (evaluate(*statement.filter).truth()) kept.push_back(std::move(item));
    }
    return kept;
  }

  static Value loop_facts(const std::vector<Value>& items, std::size_t i) {
    const auto size = static_cast<std::int64_t>(items.size());
    const auto index = static_cast<std::int64_t>(i);
    Dict loop;
    loop.set("index", index + 1);
    loop.set("index0", index);
    loop.set("revindex", size - index);
    loop.set("revindex0", size - index - 1);
    loop.set("first", index == 0);
    loop.set("last", index + 1 == size);
    loop.set("length", size);
    loop.set("previtem", i > 0 ? items[i - 1] : Value());
    loop.set("nextitem", i + 1 < items.size() ? items[i + 1] : Value());
    return Value::dict(std::move(loop));
  }

  void run_loop(const Statement& statement) {
    const std::vector<Value> items = loop_items(statement);
    if (items.empty()) {
      run(statement.otherwise);
      return;
    }
    for (std::size_t i = 0; i < items.size(); ++i) {
      const Scope scope(*this);
      step();
      assign("loop", loop_facts(items, i));
      unpack(statement.names, items[i]);
      if (run(statement.body) == Flow::kBreak) return;
    }
  }

  void run_set(const Statement& statement) {
    Value value;
    if (statement.expr) {
      value = evaluate(*statement.expr);
    } else {
      value = captured(statement.body);
    }
    if (statement.attribute.empty()) return unpack(statement.names, value);
    const Value object = lookup(statement.names.front());
    if (object.dict() == nullptr || !object.dict()->is_namespace) {
      throw InvalidArgument(concat("'", statement.names.front(), "' is no namespace"));
    }
    object.dict()->set_part(statement.attribute, std::move(value));
  }

  std::string captured(const Block& body) {
    std::string outer = std::exchange(output_, {});
    run(body);
    return std::exchange(output_, std::move(outer));
  }

  // --- names

  void assign(const std::string& name, Value value) { scopes_.back().set(name, std::move(value)); }

  Value lookup(const std::string& name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      if (const Value* found = scope->find(name)) return *found;
    }
    return {};
  }

  // --- expressions

  Value evaluate(const Expr& expr) {
    Value value = compute(expr);
    // What a value costs beside the step that made it: texts are copied, lists gone through.
    std::size_t cost = 0;
    if (const std::string* text = value.text()) {
      check_size(text->size());
      cost = text->size() / 1024;
    } else if (value.list() != nullptr) {
      cost = value.list()->size() / 16;
    }
    step(1 + static_cast<std::int64_t>(cost));
    return value;
  }

  Value compute(const Expr& expr) {
    switch (expr.kind) {
      case Expr::Kind::kLiteral:
        return expr.value;
      case Expr::Kind::kName:
        return lookup(expr.name);
      case Expr::Kind::kList: {
        std::vector<Value> items;
        items.reserve(expr.children.size());
        for (const ExprPtr& child : expr.children) items.push_back(evaluate(*child));
        return expr.name == "tuple" ? Value::tuple(std::move(items))
                                    : Value::list(std::move(items));
      }
      case Expr::Kind::kDict: {
        Dict items;
        for (std::size_t i = 0; i < expr.children.size(); i += 2) {
          const Value key = evaluate(*expr.children[i]);
          if (key.text() == nullptr) throw InvalidArgument("keys of a dict must be strings");
          items.set(*key.text(), evaluate(*expr.children[i + 1]));
        }
        return Value::dict(std::move(items));
      }
      case Expr::Kind::kAttribute:
        return get_item(evaluate(*expr.children[0]), expr.name);
      case Expr::Kind::kItem:
        return get_item(evaluate(*expr.children[0]), evaluate(*expr.children[1]));
      case Expr::Kind::kSlice:
        return slice(expr);
      case Expr::Kind::kCall:
        return call(expr);
      case Expr::Kind::kFilter:
        return call_filter(expr.name, evaluate(*expr.children[0]), arguments(expr, 1), *this);
      case Expr::Kind::kTest:
        return call_test(expr.name, evaluate(*expr.children[0]), arguments(expr, 1));
      case Expr::Kind::kUnary:
        return unary(expr);
      case Expr::Kind::kBinary:
        return binary(expr);
      case Expr::Kind::kConditional:
        if (evaluate(*expr.children[1]).truth()) return evaluate(*expr.children[0]);
        return expr.children[2] ? evaluate(*expr.children[2]) : Value();
    }
    bug("Evaluator: unknown expression");
  }

  Arguments arguments(const Expr& expr, std::size_t first) {
    Arguments result;
    for (std::size_t i = first; i < expr.children.size(); ++i) {
      result.values.push_back(evaluate(*expr.children[i]));
    }
    for (const auto& [name, value] : expr.named) result.named.emplace_back(name, evaluate(*value));
    return result;
  }

  Value unary(const Expr& expr) {
    const Value value = evaluate(*expr.children[0]);
    if (expr.name == "not") return !value.truth();
    if (!value.is_number()) throw InvalidArgument(concat("can not negate ", value.type_name()));
    return arithmetic(expr.name, 0, value);
  }

  Value binary(const Expr& expr) {
    Value left = evaluate(*expr.children[0]);
    if (expr.name == "and") return left.truth() ? evaluate(*expr.children[1]) : left;
    if (expr.name == "or") return left.truth() ? left : evaluate(*expr.children[1]);
    const Value right = evaluate(*expr.children[1]);
    if (expr.name == "~") return left.str() + right.str();
    if (expr.name == "==") return left == right;
    if (expr.name == "!=") return !(left == right);
    if (expr.name == "<") return less(left, right);
    if (expr.name == ">") return less(right, left);
    if (expr.name == "<=") return !less(right, left);
    if (expr.name == ">=") return !less(left, right);
    if (expr.name == "in") return contains(right, left);
    if (expr.name == "not in") return !contains(right, left);
    return arithmetic(expr.name, left, right);
  }

  Value slice(const Expr& expr) {
    const Value object = evaluate(*expr.children[0]);
    if (object.text() == nullptr && object.list() == nullptr) {
      throw InvalidArgument(concat("can not take a part of ", object.type_name()));
    }
    const std::vector<Value> items = iterate(object);
    const auto size = static_cast<std::int64_t>(items.size());
    const auto part = [&](std::size_t i) {
      return expr.children[i] ? evaluate(*expr.children[i]) : Value(None{});
    };
    const Value step_value = part(3);
    const std::int64_t stride = step_value.is_none() ? 1 : step_value.integer();
    const auto bound = [&](const Value& value, std::int64_t otherwise) {
      if (value.is_none()) return otherwise;
      const std::int64_t i = value.integer() < 0 ? value.integer() + size : value.integer();
      return std::clamp<std::int64_t>(i, stride > 0 ? 0 : -1, stride > 0 ? size : size - 1);
    };
    const std::int64_t begin = bound(part(1), stride > 0 ? 0 : size - 1);
    const std::int64_t end = bound(part(2), stride > 0 ? size : -1);
    std::vector<Value> kept;
    for (const std::int64_t i : progression(begin, end, stride)) {
      kept.push_back(items[static_cast<std::size_t>(i)]);
    }
    if (object.text() == nullptr) {
      return object.list()->is_tuple ? Value::tuple(std::move(kept)) : Value::list(std::move(kept));
    }
    std::string text;
    for (const Value& character : kept) text += *character.text();
    return text;
  }

  Value call(const Expr& expr) {
    const Expr& callee = *expr.children[0];
    if (callee.kind == Expr::Kind::kAttribute) {
      const Value object = evaluate(*callee.children[0]);
      const Value member = object.dict() != nullptr ? get_item(object, callee.name) : Value();
      if (const auto* macro = member.get<std::shared_ptr<const Macro>>()) {
        return call_macro(**macro, arguments(expr, 1));
      }
      return call_method(object, callee.name, arguments(expr, 1));
    }
    const Value function = evaluate(callee);
    if (const auto* macro = function.get<std::shared_ptr<const Macro>>()) {
      return call_macro(**macro, arguments(expr, 1));
    }
    if (callee.kind == Expr::Kind::kName && function.is_undefined()) {
      return call_global(callee.name, arguments(expr, 1));
    }
    throw InvalidArgument(concat("can not call ", function.type_name()));
  }

  Value call_macro(const Macro& macro, const Arguments& given) {
    const Statement& definition = *macro.definition;
    if (given.values.size() > definition.parameters.size()) {
      throw InvalidArgument(concat("macro '", definition.names.front(), "' takes ",
                                   definition.parameters.size(), " arguments"));
    }
    const Scope scope(*this);
    for (std::size_t i = 0; i < definition.parameters.size(); ++i) {
      const Parameter& parameter = definition.parameters[i];
      Value value = given.get(i, parameter.name);
      if (value.is_undefined() && parameter.standard) value = evaluate(*parameter.standard);
      assign(parameter.name, std::move(value));
    }
    return captured(definition.body);
  }

  const std::string& name_;
  std::vector<Dict> scopes_;
  std::string output_;
  std::int64_t steps_ = 0;
};

}  // namespace

std::string evaluate(const Block& block, const Dict& context, const std::string& name) {
  return Evaluator(context, name).render(block);
}

}  // namespace perpend::jinja
