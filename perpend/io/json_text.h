#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace perpend {

// Parses untrusted JSON into an object. Throws IoError "<name>: ..." for text that is no JSON,
// holds anything but an object, nests deeper than 64 or names a key of one object twice.
nlohmann::json parse_json_object(std::string_view text, std::string_view name);

// The value on one line, keys in order of insertion. Throws InvalidArgument "<name>: ..." for
// strings that are not UTF-8.
std::string json_line(const nlohmann::ordered_json& value, std::string_view name);

// The shortest decimal that reads back as `value`: 1e-05 rather than 9.999999747378752e-06.
double shortest_decimal(float value);

// The value over several lines, with a line break at the end. Throws as json_line does.
std::string json_document(const nlohmann::json& value, std::string_view name);

}  // namespace perpend
