#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "perpend/core/error.h"
#include "perpend/core/range.h"
#include "perpend/mask/compositions.h"
#include "perpend/mask/text_reader.h"

namespace perpend {
namespace {

// The parameters of a composition with the texts that stand for them.
using Values = std::vector<std::pair<std::string_view, std::string>>;

const std::string* find_value(const Values& values, std::string_view name) {
  for (const auto& [known, value] : values) {
    if (known == name) return &value;
  }
  return nullptr;
}

// A sum of products of numbers, integer parameters and brackets.
class Arithmetic {
 public:
  Arithmetic(std::string_view text, const Values& values)
      : reader_(text, "composition"), values_(values) {}

  std::int64_t evaluate() {
    const std::int64_t value = sum();
    reader_.expect_end("an operator");
    return value;
  }

 private:
  // Values stay below 2^60 in size, so that one more sum or a check of a product can not overflow.
  std::int64_t bounded(std::int64_t value) {
    constexpr std::int64_t kMost = std::int64_t{1} << 60;
    if (value > kMost || value < -kMost) reader_.fail("the value is too large");
    return value;
  }
  std::int64_t sum() {
    std::int64_t value = product();
    while (true) {
      if (reader_.accept('+')) {
        value = bounded(value + product());
      } else if (reader_.accept('-')) {
        value = bounded(value - product());
      } else {
        return value;
      }
    }
  }
  std::int64_t product() {
    std::int64_t value = factor();
    while (true) {
      if (reader_.accept('*')) {
        std::int64_t result = 0;
        if (__builtin_mul_overflow(value, factor(), &result))
          reader_.fail("the value is too large");
        value = bounded(result);
      } else if (reader_.accept('/')) {
        const std::int64_t divisor = factor();
        if (divisor <= 0) reader_.fail("expected a positive divisor");
        value = floor_div(value, divisor);
      } else {
        return value;
      }
    }
  }
  std::int64_t factor() {
    if (reader_.accept('(')) {
      const std::int64_t value = sum();
      reader_.expect(')', "to close the bracket");
      return value;
    }
    const std::string_view word = reader_.word();
    if (word.empty()) return reader_.integer();
    const std::string* value = find_value(values_, word);
    if (value == nullptr) reader_.fail(concat("unknown parameter ", word));
    TextReader number(*value, concat("mask: parameter ", word));
    return number.integer(/*negative=*/true);
  }

  TextReader reader_;
  const Values& values_;
};

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

Values values_of(const Composition& composition, const std::vector<std::string>& arguments) {
  Values values;
  std::string_view rest = composition.parameters;
  while (!rest.empty()) {
    const std::size_t comma = std::min(rest.find(','), rest.size());
    const std::string_view parameter = rest.substr(0, comma);
    rest.remove_prefix(std::min(comma + 1, rest.size()));
    const std::size_t equals = parameter.find('=');
    const std::string_view name = trimmed(parameter.substr(0, equals));
    if (values.size() < arguments.size()) {
      values.emplace_back(name, arguments[values.size()]);
      continue;
    }
    check(equals != std::string_view::npos,
          concat("mask: ", composition.name, "(", composition.parameters, ") needs ", name));
    values.emplace_back(name, concat(Arithmetic(parameter.substr(equals + 1), values).evaluate()));
  }
  check(values.size() >= arguments.size(),
        concat("mask: ", composition.name, "(", composition.parameters, ") takes ", values.size(),
               " arguments, not ", arguments.size()));
  return values;
}

}  // namespace

std::string expanded(const Composition& composition, const std::vector<std::string>& arguments) {
  const Values values = values_of(composition, arguments);
  std::string text;
  std::string_view rest = composition.text;
  for (std::size_t open = rest.find('{'); open != std::string_view::npos; open = rest.find('{')) {
    const std::size_t close = rest.find('}', open);
    const std::string_view inside = rest.substr(open + 1, close - open - 1);
    const std::string* whole = find_value(values, inside);
    text += rest.substr(0, open);
    text += whole != nullptr ? *whole : concat(Arithmetic(inside, values).evaluate());
    rest.remove_prefix(close + 1);
  }
  return text + std::string(rest);
}

}  // namespace perpend
