#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"

namespace perpend {

constexpr std::int64_t kMaxModelSize = 1 << 24;  // of any one dimension: keeps products in 64 bits

// Typed access to an object of a config.json. null counts as absent. Throws IoError that names the
// file, the key and what was expected.
class ConfigReader {
 public:
  ConfigReader(std::string path, const nlohmann::json& object)
      : path_(std::move(path)), object_(object) {}

  std::int64_t integer(const char* key) const {
    if (!has(key)) throw IoError(concat(path_, ": key '", key, "' is missing"));
    return integer_or(key, 0);
  }
  std::int64_t integer_or(const char* key, std::int64_t otherwise) const {
    if (!has(key)) return otherwise;
    if (!object_[key].is_number_integer()) throw wrong_type(key, "an integer");
    return object_[key].get<std::int64_t>();
  }
  int size(const char* key) const {
    return static_cast<int>(std::clamp<std::int64_t>(integer(key), -1, kMaxModelSize + 1));
  }
  float number_or(const char* key, float otherwise) const {
    if (!has(key)) return otherwise;
    if (!object_[key].is_number()) throw wrong_type(key, "a number");
    return object_[key].get<float>();
  }
  std::string text_or(const char* key, const std::string& otherwise) const {
    if (!has(key)) return otherwise;
    if (!object_[key].is_string()) throw wrong_type(key, "a string");
    return object_[key].get<std::string>();
  }
  bool flag_or(const char* key, bool otherwise) const {
    if (!has(key)) return otherwise;
    if (!object_[key].is_boolean()) throw wrong_type(key, "true or false");
    return object_[key].get<bool>();
  }
  bool has(const char* key) const { return object_.contains(key) && !object_[key].is_null(); }
  const nlohmann::json& value(const char* key) const { return object_[key]; }
  const std::string& path() const { return path_; }

 private:
  IoError wrong_type(const char* key, std::string_view expected) const {
    return IoError(
        concat(path_, ": key '", key, "': expected ", expected, ", found ", object_[key].dump()));
  }

  std::string path_;
  const nlohmann::json& object_;
};

}  // namespace perpend
