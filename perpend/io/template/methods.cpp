#include <algorithm>

#include "perpend/core/error.h"
#include "perpend/io/template/evaluator.h"
#include "perpend/io/template/utf8.h"

namespace perpend::jinja {
namespace {

constexpr std::string_view kBlanks = " \t\n\r\v\f";

std::string strip(std::string_view text, std::string_view set, bool left, bool right) {
  if (left) text.remove_prefix(std::min(text.find_first_not_of(set), text.size()));
  if (right) text = text.substr(0, text.find_last_not_of(set) + 1);
  return std::string(text);
}

std::string replace(std::string_view text, std::string_view from, std::string_view to,
                    std::int64_t limit) {
  std::string out;
  if (from.empty()) throw InvalidArgument("replace: the text to replace is empty");
  for (std::size_t found; limit != 0 && (found = text.find(from)) != std::string_view::npos;
       --limit) {
    out += text.substr(0, found);
    out += to;
    check_size(out.size());
    text.remove_prefix(found + from.size());
  }
  return out.append(text);
}

Value split(std::string_view text, const Value& separator, std::int64_t limit) {
  std::vector<Value> parts;
  if (separator.is_none() || separator.is_undefined()) {
    while (true) {
      text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
      if (text.empty()) break;
      const std::size_t end =
          limit == 0 ? text.size() : std::min(text.find_first_of(kBlanks), text.size());
      parts.emplace_back(std::string(text.substr(0, end)));
      text.remove_prefix(end);
      --limit;
    }
    return Value::list(std::move(parts));
  }
  if (separator.text() == nullptr || separator.text()->empty()) {
    throw InvalidArgument("split: expected a separator");
  }
  for (std::size_t found;
       limit != 0 && (found = text.find(*separator.text())) != std::string_view::npos; --limit) {
    parts.emplace_back(std::string(text.substr(0, found)));
    text.remove_prefix(found + separator.text()->size());
  }
  parts.emplace_back(std::string(text));
  return Value::list(std::move(parts));
}

Value rsplit(std::string_view text, const Value& separator, std::int64_t limit) {
  if (separator.text() == nullptr || separator.text()->empty()) {
    throw InvalidArgument("rsplit: expected a separator");
  }
  std::vector<Value> parts;
  for (std::size_t found;
       limit != 0 && (found = text.rfind(*separator.text())) != std::string_view::npos; --limit) {
    parts.emplace_back(std::string(text.substr(found + separator.text()->size())));
    text = text.substr(0, found);
  }
  parts.emplace_back(std::string(text));
  std::reverse(parts.begin(), parts.end());
  return Value::list(std::move(parts));
}

// ASCII letters change case; others stay, which is what chat templates need.
char upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

std::string cased(std::string text, std::string_view how) {
  bool start = true;
  for (char& c : text) {
    const bool letter = upper(c) != lower(c);
    c = how == "upper" || (how != "lower" && start) ? upper(c) : lower(c);
    start = how == "title" ? !letter : false;
  }
  return text;
}

bool affix(const std::string& text, const Value& wanted, bool front) {
  for (const Value& part :
       wanted.list() != nullptr ? iterate(wanted) : std::vector<Value>{wanted}) {
    if (part.text() == nullptr) throw InvalidArgument("expected a string");
    if (front ? text.starts_with(*part.text()) : text.ends_with(*part.text())) return true;
  }
  return false;
}

Value string_method(const std::string& text, const std::string& name, const Arguments& arguments) {
  const auto blanks = [&] {
    const Value set = arguments.get(0, "chars");
    return set.text() == nullptr ? std::string(kBlanks) : *set.text();
  };
  const auto string = [&](std::size_t index) {
    const Value value = arguments.get(index, "");
    if (value.text() == nullptr) throw InvalidArgument(concat(name, ": expected a string"));
    return *value.text();
  };
  if (name == "strip") return strip(text, blanks(), true, true);
  if (name == "lstrip") return strip(text, blanks(), true, false);
  if (name == "rstrip") return strip(text, blanks(), false, true);
  if (name == "split") {
    return split(text, arguments.get(0, "sep", None{}), arguments.get(1, "maxsplit", -1).integer());
  }
  if (name == "rsplit") {
    return rsplit(text, arguments.get(0, "sep", None{}),
                  arguments.get(1, "maxsplit", -1).integer());
  }
  if (name == "replace") {
    return replace(text, string(0), string(1), arguments.get(2, "count", -1).integer());
  }
  if (name == "upper" || name == "lower" || name == "title" || name == "capitalize") {
    return cased(text, name);
  }
  if (name == "startswith") return affix(text, arguments.get(0, "prefix"), true);
  if (name == "endswith") return affix(text, arguments.get(0, "suffix"), false);
  if (name == "find") {
    const std::size_t found = text.find(string(0));
    return found == std::string::npos
               ? std::int64_t{-1}
               : static_cast<std::int64_t>(count_characters(text.substr(0, found)));
  }
  if (name == "count") {
    std::int64_t count = 0;
    const std::string part = string(0);
    if (part.empty()) throw InvalidArgument("count: expected a text");
    for (std::size_t at = text.find(part); at != std::string::npos;
         at = text.find(part, at + part.size())) {
      ++count;
    }
    return count;
  }
  if (name == "isdigit") {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
  }
  if (name == "join") {
    std::string out;
    bool first = true;
    for (const Value& item : iterate(arguments.get(0, "iterable"))) {
      if (!std::exchange(first, false)) out += text;
      out += item.str();
      check_size(out.size());
    }
    return out;
  }
  throw Unsupported(concat("a string has no method '", name, "' here"));
}

}  // namespace

Value call_method(const Value& object, const std::string& name, const Arguments& arguments) {
  if (object.text() != nullptr) return string_method(*object.text(), name, arguments);
  if (const Dict* dict = object.dict()) {
    if (name == "get") {
      const Value key = arguments.get(0, "key");
      const Value* found = key.text() == nullptr ? nullptr : dict->find(*key.text());
      return found == nullptr ? arguments.get(1, "default", None{}) : *found;
    }
    std::vector<Value> items;
    for (const auto& [key, value] : dict->items) {
      if (name == "keys") items.emplace_back(key);
      if (name == "values") items.push_back(value);
      if (name == "items") items.push_back(Value::tuple({Value(key), value}));
    }
    if (name == "keys" || name == "values" || name == "items") return Value::list(std::move(items));
  }
  throw Unsupported(concat(object.type_name(), " has no method '", name, "' here"));
}

}  // namespace perpend::jinja
