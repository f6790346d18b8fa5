#include <ctime>
#include <utility>

#include "perpend/core/error.h"
#include "perpend/io/template/evaluator.h"

namespace perpend::jinja {
namespace {

Value range(const Arguments& given) {
  const auto number = [&](std::size_t i) { return given.values.at(i).integer(); };
  const std::size_t count = given.values.size();
  check(count >= 1 && count <= 3, "range: expected 1 to 3 numbers");
  std::vector<Value> items;
  for (const std::int64_t i : progression(count > 1 ? number(0) : 0, number(count > 1 ? 1 : 0),
                                          count > 2 ? number(2) : 1)) {
    items.emplace_back(i);
  }
  return Value::list(std::move(items));
}

Dict members_of(const Arguments& given) {
  Dict members;
  if (given.values.size() == 1 && given.values[0].dict() != nullptr) {
    members = *given.values[0].dict();
  }
  for (const auto& [key, value] : given.named) members.set(key, value);
  return members;
}

std::string local_time(const std::string& format) {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char text[256];
  return {text, std::strftime(text, sizeof(text), format.c_str(), &local)};
}

}  // namespace

Value call_global(const std::string& name, const Arguments& given) {
  if (name == "raise_exception") throw InvalidArgument(given.get(0, "message", "").str());
  if (name == "range") return range(given);
  if (name == "dict") return Value::dict(members_of(given));
  if (name == "namespace") {
    Dict members = members_of(given);
    members.is_namespace = true;
    return Value::dict(std::move(members));
  }
  if (name == "strftime_now") return local_time(given.get(0, "format", "").str());
  throw InvalidArgument(concat("unknown function '", name, "'"));
}

}  // namespace perpend::jinja
