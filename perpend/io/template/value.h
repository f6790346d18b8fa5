#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace perpend::jinja {

class Value;
struct Macro;

// A list, or a tuple, which only prints and compares differently.
struct List;

// How large a value is, written out as a tree: what prints it or compares it goes this deep and
// takes this many steps, however often its parts are shared.
struct Extent {
  int depth = 0;
  std::size_t size = 1;  // values and bytes of text
};
// Throws InvalidArgument for more bytes, or values, than a template may make at once.
void check_size(std::size_t size);

// Keys in order of insertion, as Python keeps them.
struct Dict {
  std::vector<std::pair<std::string, Value>> items;
  // Of a dict that is a value.
  Extent extent;
  // Only a namespace changes after it was made. None is part of another value, so that no value
  // ever holds itself.
  bool is_namespace = false;

  const Value* find(std::string_view key) const;
  void set(std::string_view key, Value value);
  // set() and measure() of what may be part of another value; otherwise nothing changes.
  void set_part(std::string_view key, Value value);
  // Brings `extent` up to date. Throws InvalidArgument for what nests too deep or is too large.
  void measure();
};

struct Undefined {
  friend bool operator==(const Undefined&, const Undefined&) = default;
};
struct None {
  friend bool operator==(const None&, const None&) = default;
};

// A value of the template language. Lists and dicts are shared, as in Python.
class Value {
 public:
  using Variant =
      std::variant<Undefined, None, bool, std::int64_t, double, std::string, std::shared_ptr<List>,
                   std::shared_ptr<Dict>, std::shared_ptr<const Macro>>;

  Value() = default;
  // NOLINTBEGIN(google-explicit-constructor): a value is any of these
  template <class T>
  requires std::is_constructible_v<Variant, T> Value(T&& value) : value_(std::forward<T>(value)) {}
  Value(const char* text) : value_(std::string(text)) {}
  Value(int value) : value_(std::int64_t{value}) {}
  // NOLINTEND(google-explicit-constructor)

  // Throw InvalidArgument for what nests too deep, is too large or holds a namespace.
  static Value list(std::vector<Value> items);
  static Value tuple(std::vector<Value> items);
  static Value dict(Dict items);
  static Value from_json(const nlohmann::ordered_json& json, int depth = 0);

  template <class T>
  const T* get() const {
    return std::get_if<T>(&value_);
  }
  bool is_undefined() const { return get<Undefined>() != nullptr; }
  bool is_none() const { return get<None>() != nullptr; }
  const std::string* text() const { return get<std::string>(); }
  const List* list() const {
    const auto* list = get<std::shared_ptr<List>>();
    return list == nullptr ? nullptr : list->get();
  }
  Dict* dict() const {
    const auto* dict = get<std::shared_ptr<Dict>>();
    return dict == nullptr ? nullptr : dict->get();
  }
  bool is_number() const { return get<bool>() || get<std::int64_t>() || get<double>(); }
  bool is_integer() const { return get<bool>() || get<std::int64_t>(); }
  Extent extent() const;
  double number() const;
  std::int64_t integer() const;

  bool truth() const;
  // What {{ value }} prints, and how it looks inside a list.
  std::string str() const;
  std::string repr() const;
  // "a string", for errors.
  std::string_view type_name() const;

 private:
  Variant value_;
};

struct List : std::vector<Value> {
  using std::vector<Value>::vector;
  explicit List(std::vector<Value> items) : std::vector<Value>(std::move(items)) {}
  const std::vector<Value>& items() const { return *this; }

  bool is_tuple = false;
  Extent extent;
};

bool operator==(const Value& a, const Value& b);
// Order of numbers, strings and lists; throws InvalidArgument for anything else.
bool less(const Value& a, const Value& b);

// JSON text as Python's json.dumps(ensure_ascii=False) writes it; indent < 0: one line.
std::string to_json(const Value& value, int indent, int depth = 0);

}  // namespace perpend::jinja
