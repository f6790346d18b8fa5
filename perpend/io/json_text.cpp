#include "perpend/io/json_text.h"

#include <array>
#include <charconv>
#include <set>
#include <string>
#include <vector>

#include "perpend/core/error.h"

namespace perpend {
namespace {

constexpr int kMaxJsonDepth = 64;

// Watches the parser: depth, and the keys seen in each open object.
class Guard {
 public:
  explicit Guard(std::string_view name) : name_(name) {}

  bool operator()(int depth, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
    using Event = nlohmann::json::parse_event_t;
    if (depth > kMaxJsonDepth)
      throw IoError(concat(name_, ": JSON nested deeper than ", kMaxJsonDepth));
    if (event == Event::object_start) keys_.emplace_back();
    if (event == Event::object_end) keys_.pop_back();
    if (event == Event::key && !keys_.back().insert(parsed.get<std::string>()).second) {
      throw IoError(concat(name_, ": JSON key '", parsed.get<std::string>().substr(0, 100),
                           "' is given twice"));
    }
    return true;
  }

 private:
  std::string_view name_;
  std::vector<std::set<std::string>> keys_;
};

}  // namespace

nlohmann::json parse_json_object(std::string_view text, std::string_view name) {
  nlohmann::json object;
  try {
    object = nlohmann::json::parse(text.begin(), text.end(), Guard(name));
  } catch (const nlohmann::json::exception& error) {
    throw IoError(concat(name, ": not valid JSON: ", error.what()));
  }
  if (!object.is_object()) {
    throw IoError(concat(name, ": expected a JSON object, found ", object.type_name()));
  }
  return object;
}

namespace {

constexpr int kOneLine = -1;

template <class Json>
std::string dumped(const Json& value, int indent, std::string_view name) {
  try {
    return value.dump(indent);
  } catch (const nlohmann::json::exception& error) {
    throw InvalidArgument(concat(name, ": can not be written as JSON: ", error.what()));
  }
}

}  // namespace

std::string json_line(const nlohmann::ordered_json& value, std::string_view name) {
  return dumped(value, kOneLine, name);
}

std::string json_document(const nlohmann::json& value, std::string_view name) {
  return dumped(value, 2, name) + "\n";
}

double shortest_decimal(float value) {
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value);
  double result = 0;
  std::from_chars(text.data(), end.ptr, result);
  return result;
}

}  // namespace perpend
