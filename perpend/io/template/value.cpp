#include "perpend/io/template/value.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"

namespace perpend::jinja {
namespace {

constexpr int kMaxNesting = 256;
constexpr std::size_t kMaxValueSize = 1 << 24;

void add_part(Extent& whole, const Value& part) {
  if (part.dict() != nullptr && part.dict()->is_namespace) {
    throw InvalidArgument("a namespace can not be part of another value");
  }
  const Extent extent = part.extent();
  whole.depth = std::max(whole.depth, extent.depth + 1);
  whole.size += extent.size;
  check(whole.depth <= kMaxNesting, "lists and dicts nested too deep");
  check_size(whole.size);
}

std::shared_ptr<List> measured(std::vector<Value> items) {
  auto list = std::make_shared<List>(std::move(items));
  for (const Value& item : *list) add_part(list->extent, item);
  return list;
}

// repr() of a Python float: the shortest digits that read back equal, with an exponent below 1e-4
// and from 1e16 on.
std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 400> buffer;
  const double magnitude = std::abs(value);
  const bool fixed = magnitude == 0 || (magnitude >= 1e-4 && magnitude < 1e16);
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                 fixed ? std::chars_format::fixed : std::chars_format::scientific);
  std::string text(buffer.data(), end.ptr);
  if (fixed && text.find('.') == std::string::npos) text += ".0";
  return text;
}

// A string as Python's repr() quotes it.
std::string python_quoted(std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const bool has_double = text.find('"') != std::string_view::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  std::string out(1, quote);
  for (const char c : text) {
    if (c == quote || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      constexpr std::string_view kHex = "0123456789abcdef";
      out += "\\x";
      out += kHex[static_cast<unsigned char>(c) >> 4];
      out += kHex[static_cast<unsigned char>(c) & 15];
    } else {
      out += c;
    }
  }
  return out + quote;
}

template <class Items, class Print>
std::string joined(const Items& items, Print print) {
  std::string text;
  for (const auto& item : items) text += (text.empty() ? "" : ", ") + print(item);
  return text;
}

}  // namespace

const Value* Dict::find(std::string_view key) const {
  for (const auto& [name, value] : items) {
    if (name == key) return &value;
  }
  return nullptr;
}

void Dict::set(std::string_view key, Value value) {
  for (auto& [name, old] : items) {
    if (name == key) {
      old = std::move(value);
      return;
    }
  }
  items.emplace_back(key, std::move(value));
}

void Dict::set_part(std::string_view key, Value value) {
  Extent part;
  add_part(part, value);
  set(key, std::move(value));
  measure();
}

void Dict::measure() {
  extent = {};
  for (const auto& [key, value] : items) {
    extent.size += key.size();
    add_part(extent, value);
  }
}

void check_size(std::size_t size) { check(size <= kMaxValueSize, "the value is too large"); }

Value Value::list(std::vector<Value> items) { return measured(std::move(items)); }

Value Value::tuple(std::vector<Value> items) {
  auto list = measured(std::move(items));
  list->is_tuple = true;
  return list;
}

Value Value::dict(Dict items) {
  items.measure();
  return std::make_shared<Dict>(std::move(items));
}

Extent Value::extent() const {
  if (text() != nullptr) return {0, 1 + text()->size()};
  if (list() != nullptr) return list()->extent;
  if (dict() != nullptr) return dict()->extent;
  return {};
}

Value Value::from_json(const nlohmann::ordered_json& json, int depth) {
  check(depth <= kMaxNesting, "lists and dicts nested too deep");
  switch (json.type()) {
    case nlohmann::json::value_t::null:
      return None{};
    case nlohmann::json::value_t::boolean:
      return json.get<bool>();
    case nlohmann::json::value_t::number_integer:
    case nlohmann::json::value_t::number_unsigned:
      return json.get<std::int64_t>();
    case nlohmann::json::value_t::number_float:
      return json.get<double>();
    case nlohmann::json::value_t::string:
      return json.get<std::string>();
    case nlohmann::json::value_t::array: {
      std::vector<Value> items;
      for (const auto& item : json) items.push_back(from_json(item, depth + 1));
      return list(std::move(items));
    }
    case nlohmann::json::value_t::object: {
      Dict items;
      for (const auto& [key, item] : json.items()) items.set(key, from_json(item, depth + 1));
      return dict(std::move(items));
    }
    default:
      return Undefined{};
  }
}

double Value::number() const {
  if (const auto* value = get<double>()) return *value;
  return static_cast<double>(integer());
}

std::int64_t Value::integer() const {
  if (const auto* flag = get<bool>()) return *flag ? 1 : 0;
  if (const auto* value = get<std::int64_t>()) return *value;
  throw InvalidArgument(concat("expected a whole number, found ", type_name()));
}

bool Value::truth() const {
  if (is_undefined() || is_none()) return false;
  if (is_number()) return number() != 0;
  if (text() != nullptr) return !text()->empty();
  if (list() != nullptr) return !list()->empty();
  if (dict() != nullptr) return !dict()->items.empty();
  return true;
}

std::string Value::str() const {
  if (is_undefined()) return "";
  return text() != nullptr ? *text() : repr();
}

std::string Value::repr() const {
  if (is_undefined()) return "Undefined";
  if (is_none()) return "None";
  if (const auto* flag = get<bool>()) return *flag ? "True" : "False";
  if (const auto* value = get<std::int64_t>()) return std::to_string(*value);
  if (const auto* value = get<double>()) return float_text(*value);
  if (text() != nullptr) return python_quoted(*text());
  if (list() != nullptr) {
    const std::string items = joined(*list(), [](const Value& item) { return item.repr(); });
    if (!list()->is_tuple) return "[" + items + "]";
    return "(" + items + (list()->size() == 1 ? ",)" : ")");
  }
  if (dict() != nullptr) {
    return "{" +
           joined(dict()->items,
                  [](const auto& item) {
                    return python_quoted(item.first) + ": " + item.second.repr();
                  }) +
           "}";
  }
  return "<macro>";
}

std::string_view Value::type_name() const {
  constexpr std::array<std::string_view, 9> kNames = {"nothing defined", "none",    "a bool",
                                                      "an integer",      "a float", "a string",
                                                      "a list",          "a dict",  "a macro"};
  return kNames[value_.index()];
}

bool operator==(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return a.number() == b.number();
  if (a.text() != nullptr && b.text() != nullptr) return *a.text() == *b.text();
  if (a.list() != nullptr && b.list() != nullptr) {
    return a.list()->is_tuple == b.list()->is_tuple &&
           std::equal(a.list()->begin(), a.list()->end(), b.list()->begin(), b.list()->end());
  }
  if (a.dict() != nullptr && b.dict() != nullptr) {
    if (a.dict()->items.size() != b.dict()->items.size()) return false;
    for (const auto& [key, value] : a.dict()->items) {
      const Value* other = b.dict()->find(key);
      if (other == nullptr || !(*other == value)) return false;
    }
    return true;
  }
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

bool less(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return a.number() < b.number();
  if (a.text() != nullptr && b.text() != nullptr) return *a.text() < *b.text();
  if (a.list() != nullptr && b.list() != nullptr && a.list()->is_tuple == b.list()->is_tuple) {
    const auto [x, y] =
        std::mismatch(a.list()->begin(), a.list()->end(), b.list()->begin(), b.list()->end());
    if (x == a.list()->end() || y == b.list()->end()) return y != b.list()->end();
    return less(*x, *y);
  }
  throw InvalidArgument(concat("can not order ", a.type_name(), " and ", b.type_name()));
}

std::string to_json(const Value& value, int indent, int depth) {
  const auto line = [&](int level) {
    return indent < 0 ? std::string()
                      : "\n" + std::string(static_cast<std::size_t>(indent * level), ' ');
  };
  const std::string separator = indent < 0 ? ", " : ",";
  const auto wrap = [&](char open, char close, const auto& items, auto print) {
    std::string text;
    for (const auto& item : items) {
      text += (text.empty() ? "" : separator) + line(depth + 1) + print(item);
      check_size(text.size());
    }
    return text.empty() ? std::string{open, close} : open + text + line(depth) + close;
  };
  if (value.is_none()) return "null";
  if (const auto* flag = value.get<bool>()) return *flag ? "true" : "false";
  if (value.is_number()) return value.repr();
  if (value.text() != nullptr) {
    return nlohmann::json(*value.text())
        .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }
  if (value.list() != nullptr) {
    return wrap('[', ']', *value.list(),
                [&](const Value& item) { return to_json(item, indent, depth + 1); });
  }
  if (value.dict() != nullptr) {
    return wrap('{', '}', value.dict()->items, [&](const auto& item) {
      return to_json(item.first, -1) + ": " + to_json(item.second, indent, depth + 1);
    });
  }
  throw InvalidArgument(concat("tojson: can not write ", value.type_name()));
}

}  // namespace perpend::jinja
