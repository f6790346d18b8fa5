#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "perpend/core/error.h"
#include "perpend/io/template/evaluator.h"
#include "perpend/io/template/utf8.h"

namespace perpend::jinja {
namespace {

// Each is compared with all that are kept.
constexpr std::size_t kMaxUnique = 10'000;

std::int64_t length(const Value& value) {
  if (value.text() != nullptr) return static_cast<std::int64_t>(count_characters(*value.text()));
  if (value.list() != nullptr) return static_cast<std::int64_t>(value.list()->size());
  if (value.dict() != nullptr) return static_cast<std::int64_t>(value.dict()->items.size());
  if (value.is_undefined()) return 0;
  throw InvalidArgument(concat("length: ", value.type_name(), " has none"));
}

std::string escape(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&#34;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string indent(const std::string& text, const Arguments& arguments) {
  const Value width = arguments.get(0, "width", 4);
  const std::string prefix =
      width.text() != nullptr
          ? *width.text()
          : std::string(
                static_cast<std::size_t>(std::clamp<std::int64_t>(width.integer(), 0, 1000)), ' ');
  const bool first = arguments.get(1, "first", false).truth();
  const bool blank = arguments.get(2, "blank", false).truth();
  std::string out = first ? prefix : "";
  for (std::size_t i = 0; i < text.size(); ++i) {
    out += text[i];
    const bool next_blank = i + 1 < text.size() && text[i + 1] == '\n';
    if (text[i] == '\n' && i + 1 < text.size() && (blank || !next_blank)) out += prefix;
    check_size(out.size());
  }
  return out;
}

Value sorted(const Value& value, const Arguments& arguments) {
  std::vector<Value> items = iterate(value);
  const Value attribute = arguments.get(2, "attribute", None{});
  const bool reverse = arguments.get(0, "reverse", false).truth();
  const bool case_sensitive = arguments.get(1, "case_sensitive", false).truth();
  const auto key = [&](const Value& item) {
    Value part = attribute.is_none() ? item : get_item(item, attribute);
    if (case_sensitive || part.text() == nullptr) return part;
    return call_method(part, "lower", {});
  };
  std::stable_sort(items.begin(), items.end(), [&](const Value& a, const Value& b) {
    return reverse ? less(key(b), key(a)) : less(key(a), key(b));
  });
  return Value::list(std::move(items));
}

Value select(const std::string& name, const Value& value, const Arguments& arguments,
             Functions& functions) {
  const bool by_attribute = name == "selectattr" || name == "rejectattr";
  const bool wanted = name == "select" || name == "selectattr";
  const std::size_t test_index = by_attribute ? 1 : 0;
  const Value attribute = arguments.get(0, "");
  const Value test = arguments.get(test_index, "");
  Arguments rest;
  for (std::size_t i = test_index + 1; i < arguments.values.size(); ++i) {
    rest.values.push_back(arguments.values[i]);
  }
  std::vector<Value> kept;
  for (const Value& item : iterate(value)) {
    const Value part = by_attribute ? get_item(item, attribute) : item;
    const bool holds =
        test.text() == nullptr ? part.truth() : functions.apply_test(*test.text(), part, rest);
    if (holds == wanted) kept.push_back(item);
  }
  return Value::list(std::move(kept));
}

Value map(const Value& value, const Arguments& arguments, Functions& functions) {
  const Value attribute = arguments.get(9, "attribute");
  const Value standard = arguments.get(9, "default");
  std::vector<Value> mapped;
  for (const Value& item : iterate(value)) {
    if (!attribute.is_undefined()) {
      const Value part = get_item(item, attribute);
      mapped.push_back(part.is_undefined() ? standard : part);
      continue;
    }
    const Value filter = arguments.get(0, "");
    if (filter.text() == nullptr) throw InvalidArgument("map: expected a filter or attribute=");
    Arguments rest = arguments;
    rest.values.erase(rest.values.begin());
    mapped.push_back(functions.apply_filter(*filter.text(), item, rest));
  }
  return Value::list(std::move(mapped));
}

Value to_integer(const Value& value, const Value& otherwise) {
  if (value.is_integer()) return value.integer();
  if (value.get<double>() != nullptr && std::abs(value.number()) < 9e18) {
    return static_cast<std::int64_t>(value.number());
  }
  if (value.text() == nullptr) return otherwise;
  char* end = nullptr;
  const double number = std::strtod(value.text()->c_str(), &end);
  return end == value.text()->c_str() || *end != '\0' || std::abs(number) >= 9e15
             ? otherwise
             : Value(static_cast<std::int64_t>(number));
}

Value to_float(const Value& value, const Value& otherwise) {
  if (value.is_number()) return value.number();
  if (value.text() == nullptr) return otherwise;
  char* end = nullptr;
  const double number = std::strtod(value.text()->c_str(), &end);
  return end == value.text()->c_str() || *end != '\0' ? otherwise : Value(number);
}

Value round(const Value& value, const Arguments& arguments) {
  if (!value.is_number()) throw InvalidArgument("round: expected a number");
  const double factor =
      std::pow(10.0, static_cast<double>(arguments.get(0, "precision", 0).integer()));
  const Value method = arguments.get(1, "method", "common");
  const double scaled = value.number() * factor;
  // Python rounds halves to even.
  const double rounded = method.str() == "ceil"    ? std::ceil(scaled)
                         : method.str() == "floor" ? std::floor(scaled)
                                                   : std::nearbyint(scaled);
  return rounded / factor;
}

Value extreme(const std::string& name, const Value& value, const Arguments& arguments) {
  const auto items = iterate(value);
  const Value attribute = arguments.get(9, "attribute", None{});
  const auto key = [&](const Value& item) {
    return attribute.is_none() ? item : get_item(item, attribute);
  };
  if (items.empty()) return {};
  const auto order = [&](const Value& a, const Value& b) { return less(key(a), key(b)); };
  return name == "min" ? *std::min_element(items.begin(), items.end(), order)
                       : *std::max_element(items.begin(), items.end(), order);
}

Value list_filter(const std::string& name, const Value& value, const Arguments& arguments) {
  std::vector<Value> items = iterate(value);
  if (name == "first") return items.empty() ? Value() : items.front();
  if (name == "last") return items.empty() ? Value() : items.back();
  if (name == "join") {
    const std::string separator = arguments.get(0, "d", "").str();
    const Value attribute = arguments.get(1, "attribute", None{});
    std::string text;
    for (std::size_t i = 0; i < items.size(); ++i) {
      Value part = attribute.is_none() ? items[i] : get_item(items[i], attribute);
      text += concat(i > 0 ? separator : "", part.str());
      check_size(text.size());
    }
    return text;
  }
  if (name == "reverse") std::reverse(items.begin(), items.end());
  if (name == "unique") {
    check(items.size() <= kMaxUnique, concat("unique: more than ", kMaxUnique, " values"));
    std::vector<Value> kept;
    for (const Value& item : items) {
      if (std::find(kept.begin(), kept.end(), item) == kept.end()) kept.push_back(item);
    }
    items = std::move(kept);
  }
  if (name == "sum") {
    Value sum = arguments.get(1, "start", 0);
    const Value attribute = arguments.get(0, "attribute", None{});
    for (const Value& item : items) {
      sum = arithmetic("+", sum, attribute.is_none() ? item : get_item(item, attribute));
    }
    return sum;
  }
  return Value::list(std::move(items));
}

bool is_one_of(const std::string& name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

Value call_filter(const std::string& name, const Value& value, const Arguments& arguments,
                  Functions& functions) {
  if (name == "trim") return call_method(value.str(), "strip", arguments);
  if (is_one_of(name, {"upper", "lower", "capitalize", "title"})) {
    return call_method(value.str(), name, {});
  }
  if (name == "replace") return call_method(value.str(), name, arguments);
  if (name == "length" || name == "count") return length(value);
  if (name == "tojson") {
    const Value indentation = arguments.get(0, "indent", None{});
    return to_json(value, indentation.is_none() ? -1
                                                : static_cast<int>(std::clamp<std::int64_t>(
                                                      indentation.integer(), 0, 100)));
  }
  if (name == "default" || name == "d") {
    const bool falsy = arguments.get(1, "boolean", false).truth() && !value.truth();
    return value.is_undefined() || falsy ? arguments.get(0, "default_value", "") : value;
  }
  if (name == "reverse" && value.text() != nullptr) {
    const auto characters = split_characters(*value.text());
    std::string text;
    for (auto c = characters.rbegin(); c != characters.rend(); ++c) text += *c;
    return text;
  }
  if (is_one_of(name, {"first", "last", "join", "reverse", "unique", "sum", "list"})) {
    return list_filter(name, value, arguments);
  }
  if (name == "safe" || name == "string") return value.str();
  if (name == "escape" || name == "e") return escape(value.str());
  if (name == "indent") return indent(value.str(), arguments);
  if (name == "int") return to_integer(value, arguments.get(0, "default", 0));
  if (name == "float") return to_float(value, arguments.get(0, "default", 0.0));
  if (name == "abs") {
    if (value.is_integer()) return std::abs(value.integer());
    return std::abs(value.number());
  }
  if (name == "round") return round(value, arguments);
  if (name == "min" || name == "max") return extreme(name, value, arguments);
  if (name == "sort") return sorted(value, arguments);
  if (name == "items" || name == "dictsort") {
    Value items = call_method(value, "items", {});
    return name == "items" ? items : sorted(items, {{}, {{"attribute", Value(0)}}});
  }
  if (name == "map") return map(value, arguments, functions);
  if (is_one_of(name, {"select", "reject", "selectattr", "rejectattr"})) {
    return select(name, value, arguments, functions);
  }
  throw Unsupported(concat("unknown filter '", name, "'"));
}

bool call_test(const std::string& name, const Value& value, const Arguments& arguments) {
  const Value other = arguments.get(0, "");
  if (name == "defined") return !value.is_undefined();
  if (name == "undefined") return value.is_undefined();
  if (name == "none") return value.is_none();
  if (name == "string") return value.text() != nullptr;
  if (name == "boolean") return value.get<bool>() != nullptr;
  if (name == "number") return value.is_number();
  if (name == "integer") return value.get<std::int64_t>() != nullptr;
  if (name == "float") return value.get<double>() != nullptr;
  if (name == "mapping") return value.dict() != nullptr;
  if (name == "true" || name == "false") {
    return value.get<bool>() != nullptr && *value.get<bool>() == (name == "true");
  }
  if (name == "iterable" || name == "sequence") {
    return value.list() != nullptr || value.dict() != nullptr || value.text() != nullptr ||
           value.is_undefined();
  }
  if (name == "odd") return (value.integer() & 1) == 1;
  if (name == "even") return (value.integer() & 1) == 0;
  if (name == "divisibleby") {
    check(other.integer() != 0, "division by zero");
    return value.integer() % other.integer() == 0;
  }
  if (name == "in") return contains(other, value);
  if (is_one_of(name, {"eq", "equalto", "==", "sameas"})) return value == other;
  if (is_one_of(name, {"ne", "!="})) return !(value == other);
  if (is_one_of(name, {"lt", "lessthan", "<"})) return less(value, other);
  if (is_one_of(name, {"gt", "greaterthan", ">"})) return less(other, value);
  if (is_one_of(name, {"le", "<="})) return !less(other, value);
  if (is_one_of(name, {"ge", ">="})) return !less(value, other);
  if (name == "lower") return value.str() == call_method(value.str(), "lower", {}).str();
  if (name == "upper") return value.str() == call_method(value.str(), "upper", {}).str();
  if (name == "callable") return value.get<std::shared_ptr<const Macro>>() != nullptr;
  throw Unsupported(concat("unknown test '", name, "'"));
}

}  // namespace perpend::jinja
