#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "perpend/io/template/ast.h"

namespace perpend::jinja {

// Arguments of a call, a filter or a test.
struct Arguments {
  std::vector<Value> values;
  std::vector<std::pair<std::string, Value>> named;

  // Argument `index` or the one called `name`; `otherwise` when neither was given.
  Value get(std::size_t index, std::string_view name, const Value& otherwise = {}) const;
};

// What a filter or test of other filters (map, select ...) needs of the evaluator.
class Functions {
 public:
  virtual ~Functions() = default;
  virtual Value apply_filter(const std::string& name, const Value& value,
                             const Arguments& arguments) = 0;
  virtual bool apply_test(const std::string& name, const Value& value,
                          const Arguments& arguments) = 0;
};

// Filters and tests by name. Each throws InvalidArgument for wrong types and Unsupported for
// unknown names.
Value call_filter(const std::string& name, const Value& value, const Arguments& arguments,
                  Functions& functions);
bool call_test(const std::string& name, const Value& value, const Arguments& arguments);
// Methods of strings and dicts: "x".strip(), d.items().
Value call_method(const Value& object, const std::string& name, const Arguments& arguments);

// Element access as Jinja has it: obj.name, obj[index]; undefined when there is none.
Value get_item(const Value& object, const Value& index);
std::vector<Value> iterate(const Value& value);
// Whether `item` is in `container`: element, key or part of a string.
bool contains(const Value& container, const Value& item);
Value arithmetic(const std::string& name, const Value& left, const Value& right);
// begin, begin + stride ... as long as it is before `end` (behind it, when the stride is negative).
std::vector<std::int64_t> progression(std::int64_t begin, std::int64_t end, std::int64_t stride);

// Functions that every template may call: range, namespace, dict, strftime_now, raise_exception.
Value call_global(const std::string& name, const Arguments& given);
// Renders a parsed template. `context` holds its variables. Limits on steps, depth, values and
// output keep a hostile template from hanging. Throws InvalidArgument "<name>: line <n>: ..." for
// what goes wrong, raise_exception included.
std::string evaluate(const Block& block, const Dict& context, const std::string& name);

}  // namespace perpend::jinja
