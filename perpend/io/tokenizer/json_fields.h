#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

namespace perpend {

// A JSON object and where it stands in its file, so that every error can say so: "<path>.<key>:
// expected ...". Keeps a reference to the object.
class JsonFields {
 public:
  // Throws IoError unless `value` is an object.
  JsonFields(const nlohmann::json& value, std::string path);

  const std::string& path() const { return path_; }
  const nlohmann::json& value() const { return object_; }
  // Absent for a missing key and for null.
  const nlohmann::json* find(const char* key) const;
  // These throw IoError for a value of another type, those without a default for a missing one too.
  std::string text(const char* key) const;
  std::string text(const char* key, const char* otherwise) const;
  bool flag(const char* key, bool otherwise) const;
  bool flag(const char* key) const;
  std::int64_t integer(const char* key, std::int64_t lowest, std::int64_t highest) const;
  const nlohmann::json& array(const char* key) const;
  const nlohmann::json& object(const char* key) const;
  JsonFields fields(const char* key) const;
  // One character.
  std::string character(const char* key) const;

  [[noreturn]] void fail(const std::string& what) const;
  [[noreturn]] void fail(const char* key, const std::string& expected) const;

 private:
  const nlohmann::json& require(const char* key, const char* expected) const;

  const nlohmann::json& object_;
  std::string path_;
};

// Calls `visit` for a component of tokenizer.json or, where it is a Sequence, for each of its parts
// (the array `list`) in turn; for null not at all.
void for_each_component(const nlohmann::json* component, const std::string& path, const char* list,
                        const std::function<void(const JsonFields&)>& visit);

}  // namespace perpend
