#include "perpend/io/tokenizer/json_fields.h"

#include <utility>

#include "perpend/core/error.h"
#include "perpend/io/tokenizer/utf8.h"

namespace perpend {

using nlohmann::json;

JsonFields::JsonFields(const json& value, std::string path)
    : object_(value), path_(std::move(path)) {
  if (!value.is_object()) fail(concat("expected an object, found ", value.type_name()));
}

void JsonFields::fail(const std::string& what) const { throw IoError(concat(path_, ": ", what)); }

void JsonFields::fail(const char* key, const std::string& expected) const {
  throw IoError(concat(path_, ".", key, ": expected ", expected));
}

const json* JsonFields::find(const char* key) const {
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

const json& JsonFields::require(const char* key, const char* expected) const {
  const json* value = find(key);
  if (value == nullptr) fail(key, concat(expected, ", found nothing"));
  return *value;
}

std::string JsonFields::text(const char* key) const {
  const json& value = require(key, "a text");
  if (!value.is_string()) fail(key, concat("a text, found ", value.type_name()));
  return value.get<std::string>();
}

std::string JsonFields::text(const char* key, const char* otherwise) const {
  return find(key) == nullptr ? otherwise : text(key);
}

bool JsonFields::flag(const char* key) const {
  const json& value = require(key, "true or false");
  if (!value.is_boolean()) fail(key, concat("true or false, found ", value.type_name()));
  return value.get<bool>();
}

bool JsonFields::flag(const char* key, bool otherwise) const {
  return find(key) == nullptr ? otherwise : flag(key);
}

std::int64_t JsonFields::integer(const char* key, std::int64_t lowest, std::int64_t highest) const {
  const json& value = require(key, "an integer");
  // A number above the largest int64 compares as unsigned.
  if (!value.is_number_integer() || value < lowest || value > highest) {
    fail(key, concat("an integer in [", lowest, ", ", highest, "]"));
  }
  return value.get<std::int64_t>();
}

const json& JsonFields::array(const char* key) const {
  const json& value = require(key, "an array");
  if (!value.is_array()) fail(key, concat("an array, found ", value.type_name()));
  return value;
}

const json& JsonFields::object(const char* key) const {
  const json& value = require(key, "an object");
  if (!value.is_object()) fail(key, concat("an object, found ", value.type_name()));
  return value;
}

JsonFields JsonFields::fields(const char* key) const {
  return {object(key), concat(path_, ".", key)};
}

std::string JsonFields::character(const char* key) const {
  std::string value = text(key);
  if (value.empty() || read_utf8(value).size != value.size()) fail(key, "one character");
  return value;
}

void for_each_component(const json* component, const std::string& path, const char* list,
                        const std::function<void(const JsonFields&)>& visit) {
  if (component == nullptr) return;
  const JsonFields fields(*component, path);
  if (fields.text("type") != "Sequence") {
    visit(fields);
    return;
  }
  std::size_t i = 0;
  for (const json& part : fields.array(list)) {
    for_each_component(&part, concat(path, ".", list, "[", i++, "]"), list, visit);
  }
}

}  // namespace perpend
