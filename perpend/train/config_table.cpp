#include "perpend/train/config_table.h"

#include <algorithm>
#include <cmath>
#include <utility>

#define TOML_EXCEPTIONS 1
#include <toml++/toml.h>

#include "perpend/core/error.h"
#include "perpend/io/text_file.h"
#include "perpend/mask/words.h"

namespace perpend {
namespace {

using nlohmann::json;
using Lines = std::map<std::string, int>;

json json_of(const toml::node& node, const std::string& name, Lines& lines) {
  lines[name] = static_cast<int>(node.source().begin.line);
  if (const toml::table* table = node.as_table()) {
    json object = json::object();
    const std::string prefix = name.empty() ? "" : name + ".";
    for (const auto& [key, value] : *table) {
      object[std::string(key.str())] = json_of(value, prefix + std::string(key.str()), lines);
    }
    return object;
  }
  if (const toml::array* array = node.as_array()) {
    json list = json::array();
    for (const toml::node& value : *array) {
      list.push_back(json_of(value, concat(name, "[", list.size(), "]"), lines));
    }
    return list;
  }
  if (const auto* value = node.as_integer()) return value->get();
  if (const auto* value = node.as_floating_point()) return value->get();
  if (const auto* value = node.as_boolean()) return value->get();
  if (const auto* value = node.as_string()) return value->get();
  return nullptr;  // dates and times, which no key takes
}

std::string list_of(const std::vector<std::string>& words) {
  std::string list;
  for (const std::string& word : words) list += (list.empty() ? "" : ", ") + word;
  return list;
}

}  // namespace

ConfigTable ConfigTable::open(const std::string& path) {
  return parse(read_text_file(path, /*max_bytes=*/1 << 20), path);
}

ConfigTable ConfigTable::parse(std::string_view text, const std::string& name) {
  auto file = std::make_shared<File>();
  file->name = name;
  try {
    json values = json_of(toml::parse(text), "", file->lines);
    return {std::move(file), std::move(values), ""};
  } catch (const toml::parse_error& error) {
    throw IoError(
        concat(name, ":", error.source().begin.line, ": not valid TOML: ", error.description()));
  }
}

std::string ConfigTable::place(const std::string& key) const {
  const auto line = file_->lines.find(prefix_ + key);
  std::string place = file_->name;
  if (line != file_->lines.end()) place += concat(":", line->second);
  if (prefix_.empty()) return place + ": ";
  return concat(place, ": [", prefix_.substr(0, prefix_.size() - 1), "] ");
}

void ConfigTable::fail(const std::string& key, std::string_view what) const {
  throw IoError(concat(place(key), key, ": ", what));
}

void ConfigTable::wrong(const std::string& key, std::string_view expected) const {
  fail(key, concat("expected ", expected, ", found ", values_.at(key).dump()));
}

void ConfigTable::missing(const std::string& key) const {
  // More likely misspelt than left out where there is one like it.
  const std::vector<std::string_view> known = {key};
  for (const auto& [other, value] : values_.items()) {
    const std::string text = unknown_word("key", other, known, key);
    if (!asked_.contains(other) && text.find("did you mean") != std::string::npos) {
      throw IoError(place(other) + text);
    }
  }
  fail(key, "this key is missing");
}

const json* ConfigTable::find(const std::string& key) const {
  asked_.insert(key);
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &*found;
}

std::int64_t ConfigTable::integer(const std::string& key, std::int64_t min, std::int64_t max,
                                  std::optional<std::int64_t> otherwise) const {
  const json* value = find(key);
  if (value == nullptr && !otherwise) missing(key);
  if (value == nullptr) return *otherwise;
  const bool fits = value->is_number_integer() && value->get<std::int64_t>() >= min &&
                    value->get<std::int64_t>() <= max;
  if (!fits) wrong(key, concat("an integer from ", min, " to ", max));
  return value->get<std::int64_t>();
}

double ConfigTable::number(const std::string& key, double min, double max,
                           std::optional<double> otherwise) const {
  const json* value = find(key);
  if (value == nullptr && !otherwise) missing(key);
  if (value == nullptr) return *otherwise;
  const bool fits = value->is_number() && std::isfinite(value->get<double>()) &&
                    value->get<double>() >= min && value->get<double>() <= max;
  if (!fits) wrong(key, concat("a number from ", min, " to ", max));
  return value->get<double>();
}

std::string ConfigTable::text(const std::string& key, std::optional<std::string> otherwise) const {
  const json* value = find(key);
  if (value == nullptr && !otherwise) missing(key);
  if (value == nullptr) return *std::move(otherwise);
  if (!value->is_string()) wrong(key, "a text in quotes");
  return value->get<std::string>();
}

std::string ConfigTable::choice(const std::string& key, const std::vector<std::string>& choices,
                                std::optional<std::string> otherwise) const {
  std::string value = text(key, std::move(otherwise));
  if (std::find(choices.begin(), choices.end(), value) != choices.end()) return value;
  const std::vector<std::string_view> known(choices.begin(), choices.end());
  fail(key, unknown_word("value", value, known, list_of(choices)));
}

bool ConfigTable::flag(const std::string& key, bool otherwise) const {
  const json* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) wrong(key, "true or false");
  return value->get<bool>();
}

std::vector<std::string> ConfigTable::texts(const std::string& key,
                                            std::vector<std::string> otherwise) const {
  const json* value = find(key);
  if (value == nullptr) return otherwise;
  const auto is_text = [](const json& item) { return item.is_string(); };
  if (!value->is_array() || !std::all_of(value->begin(), value->end(), is_text)) {
    wrong(key, "a list of texts in quotes");
  }
  return value->get<std::vector<std::string>>();
}

ConfigTable ConfigTable::table(const std::string& key) const {
  const json* value = find(key);
  if (value != nullptr && !value->is_object()) wrong(key, "a table");
  return {file_, value == nullptr ? json::object() : *value, prefix_ + key + "."};
}

std::vector<ConfigTable> ConfigTable::tables(const std::string& key) const {
  const json* value = find(key);
  std::vector<ConfigTable> list;
  if (value == nullptr) return list;
  const auto is_table = [](const json& item) { return item.is_object(); };
  if (!value->is_array() || !std::all_of(value->begin(), value->end(), is_table)) {
    wrong(key, concat("tables, each begun by [[", prefix_, key, "]]"));
  }
  for (const json& item : *value) {
    list.push_back(ConfigTable(file_, item, concat(prefix_, key, "[", list.size(), "].")));
  }
  return list;
}

void ConfigTable::check_all_read() const {
  const std::vector<std::string_view> known(asked_.begin(), asked_.end());
  for (const auto& [key, value] : values_.items()) {
    if (asked_.contains(key)) continue;
    const std::string expected = list_of({asked_.begin(), asked_.end()});
    throw IoError(concat(place(key), unknown_word("key", key, known, expected)));
  }
}

}  // namespace perpend
