#include <algorithm>
#include <cmath>

#include "perpend/core/error.h"
#include "perpend/io/template/evaluator.h"
#include "perpend/io/template/utf8.h"

namespace perpend::jinja {
namespace {

constexpr std::size_t kMaxText = 1 << 24;
constexpr std::size_t kMaxProgression = 1'000'000;

Value repeat(const Value& value, std::int64_t times) {
  times = std::max<std::int64_t>(times, 0);
  const std::size_t size = value.text() != nullptr ? value.text()->size() : value.list()->size();
  check(size == 0 || static_cast<std::size_t>(times) <= kMaxText / size,
        "the repeated value is too long");
  if (value.text() != nullptr) {
    std::string text;
    for (std::int64_t i = 0; i < times; ++i) text += *value.text();
    return text;
  }
  std::vector<Value> items;
  for (std::int64_t i = 0; i < times; ++i) {
    items.insert(items.end(), value.list()->begin(), value.list()->end());
  }
  return value.list()->is_tuple ? Value::tuple(std::move(items)) : Value::list(std::move(items));
}

Value integer_arithmetic(const std::string& name, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  bool overflow = false;
  if (name == "+") {
    overflow = __builtin_add_overflow(a, b, &result);
  } else if (name == "-") {
    overflow = __builtin_sub_overflow(a, b, &result);
  } else if (name == "*") {
    overflow = __builtin_mul_overflow(a, b, &result);
  } else if (name == "**") {
    result = 1;
    for (std::int64_t i = 0; i < b && !overflow; ++i) {
      overflow = __builtin_mul_overflow(result, a, &result) || i > 64;
      if (a == 0 || a == 1) return a;
      if (a == -1) return b % 2 == 0 ? std::int64_t{1} : std::int64_t{-1};
    }
  } else {
    check(b != 0, "division by zero");
    overflow = b == -1 && a == std::numeric_limits<std::int64_t>::min();
    // Python rounds towards minus infinity.
    const std::int64_t quotient =
        overflow ? 0 : a / b - ((a % b != 0) && ((a < 0) != (b < 0)) ? 1 : 0);
    result = name == "//" ? quotient : overflow ? 0 : a - quotient * b;
  }
  check(!overflow, "the number is too large");
  return result;
}

Value float_arithmetic(const std::string& name, double a, double b) {
  if (name == "+") return a + b;
  if (name == "-") return a - b;
  if (name == "*") return a * b;
  if (name == "**") return std::pow(a, b);
  check(b != 0, "division by zero");
  if (name == "/") return a / b;
  const double quotient = std::floor(a / b);
  return name == "//" ? quotient : a - quotient * b;
}

}  // namespace

Value Arguments::get(std::size_t index, std::string_view name, const Value& otherwise) const {
  for (const auto& [key, value] : named) {
    if (key == name) return value;
  }
  return index < values.size() ? values[index] : otherwise;
}

Value arithmetic(const std::string& name, const Value& left, const Value& right) {
  if (left.is_number() && right.is_number()) {
    const bool integers = left.is_integer() && right.is_integer() && name != "/" &&
                          !(name == "**" && right.integer() < 0);
    return integers ? integer_arithmetic(name, left.integer(), right.integer())
                    : float_arithmetic(name, left.number(), right.number());
  }
  if (name == "+") {
    if (left.text() != nullptr && right.text() != nullptr) return *left.text() + *right.text();
    if (left.list() != nullptr && right.list() != nullptr &&
        left.list()->is_tuple == right.list()->is_tuple) {
      std::vector<Value> items = left.list()->items();
      items.insert(items.end(), right.list()->begin(), right.list()->end());
      return left.list()->is_tuple ? Value::tuple(std::move(items)) : Value::list(std::move(items));
    }
  }
  if (name == "*") {
    if ((left.text() != nullptr || left.list() != nullptr) && right.is_integer()) {
      return repeat(left, right.integer());
    }
    if ((right.text() != nullptr || right.list() != nullptr) && left.is_integer()) {
      return repeat(right, left.integer());
    }
  }
  throw InvalidArgument(
      concat("can not compute ", left.type_name(), " ", name, " ", right.type_name()));
}

std::vector<std::int64_t> progression(std::int64_t begin, std::int64_t end, std::int64_t stride) {
  check(stride != 0, "the step must not be 0");
  std::vector<std::int64_t> steps;
  bool overflow = false;
  for (std::int64_t i = begin; !overflow && (stride > 0 ? i < end : i > end);) {
    check(steps.size() < kMaxProgression, "too many steps");
    steps.push_back(i);
    overflow = __builtin_add_overflow(i, stride, &i);
  }
  return steps;
}

Value get_item(const Value& object, const Value& index) {
  if (object.is_undefined()) throw InvalidArgument("an undefined value has no elements");
  if (object.dict() != nullptr && index.text() != nullptr) {
    const Value* found = object.dict()->find(*index.text());
    return found == nullptr ? Value() : *found;
  }
  if (!index.is_integer()) return {};
  std::int64_t i = index.integer();
  if (object.list() != nullptr) {
    const auto size = static_cast<std::int64_t>(object.list()->size());
    if (i < 0) i += size;
    return i >= 0 && i < size ? (*object.list())[static_cast<std::size_t>(i)] : Value();
  }
  if (object.text() != nullptr) {
    const auto characters = split_characters(*object.text());
    const auto size = static_cast<std::int64_t>(characters.size());
    if (i < 0) i += size;
    return i >= 0 && i < size ? Value(std::string(characters[static_cast<std::size_t>(i)]))
                              : Value();
  }
  return {};
}

std::vector<Value> iterate(const Value& value) {
  if (value.list() != nullptr) return value.list()->items();
  std::vector<Value> items;
  if (value.dict() != nullptr) {
    for (const auto& [key, item] : value.dict()->items) items.emplace_back(key);
  } else if (value.text() != nullptr) {
    for (std::string_view character : split_characters(*value.text())) {
      items.emplace_back(std::string(character));
    }
  } else if (!value.is_undefined()) {
    throw InvalidArgument(concat("can not go through ", value.type_name()));
  }
  return items;
}

bool contains(const Value& container, const Value& item) {
  if (container.text() != nullptr) {
    if (item.text() == nullptr) {
      throw InvalidArgument(concat("a string can not hold ", item.type_name()));
    }
    return container.text()->find(*item.text()) != std::string::npos;
  }
  if (container.dict() != nullptr) {
    if (item.dict() != nullptr || (item.list() != nullptr && !item.list()->is_tuple)) {
      throw InvalidArgument(concat(item.type_name(), " can not be a key"));
    }
    return item.text() != nullptr && container.dict()->find(*item.text()) != nullptr;
  }
  const auto items = iterate(container);
  return std::find(items.begin(), items.end(), item) != items.end();
}

}  // namespace perpend::jinja
