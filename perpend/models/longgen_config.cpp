#include "perpend/models/longgen_config.h"

#include <algorithm>
#include <functional>
#include <limits>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/json_text.h"

namespace perpend {
namespace {

using nlohmann::json;

constexpr const char* kVariantKey = "variant";

// Where the keys of one file come from.
struct Source {
  std::string path;                                     // opens every error
  std::function<std::optional<std::string>()> variant;  // throws for another type
  std::function<std::optional<std::int64_t>(std::string_view)> number;
};

LongGen read(const Source& source, int num_layers) {
  const std::string variant = source.variant().value_or("");
  if (variant != "as" && variant != "bs") {
    throw IoError(concat(source.path, ": longgen.", kVariantKey, ": expected as or bs, found '",
                         variant, "'"));
  }
  LongGen longgen = default_longgen(
      variant == "as" ? LongGen::Variant::kSink : LongGen::Variant::kStrided, num_layers);
  bool has_lo = false;
  for (const LongGenField& field : longgen_fields()) {
    const std::optional<std::int64_t> value = source.number(field.key);
    if (!value) continue;
    longgen.*field.value = *value;
    has_lo = has_lo || field.value == &LongGen::lo;
  }
  if (!has_lo) longgen.lo = hourglass_start(longgen.n_full, num_layers);
  const std::string fault = longgen_fault(longgen, num_layers);
  if (!fault.empty()) throw IoError(concat(source.path, ": ", fault));
  return longgen;
}

void check_keys(const json& object, const std::string& path) {
  for (const auto& [key, value] : object.items()) {
    const auto fields = longgen_fields();
    if (key == kVariantKey || std::ranges::find(fields, key, &LongGenField::key) != fields.end()) {
      continue;
    }
    std::string known = kVariantKey;
    for (const LongGenField& field : fields) known += concat(", ", field.key);
    throw IoError(concat(path, ": longgen.", key, ": no such key; expected one of ", known));
  }
}

std::string gguf_prefix(std::string_view architecture) { return concat(architecture, ".longgen."); }

}  // namespace

std::optional<LongGen> parse_longgen(std::string_view config_json, const std::string& path,
                                     int num_layers) {
  if (config_json.find("\"longgen\"") == std::string_view::npos) return std::nullopt;
  const json config = parse_json_object(config_json, path);
  const auto found = config.find("longgen");
  if (found == config.end() || found->is_null()) return std::nullopt;
  const json& object = *found;
  const auto wrong_type = [&](std::string_view key, std::string_view expected, const json& value) {
    return IoError(
        concat(path, ": longgen", key, ": expected ", expected, ", found ", value.dump()));
  };
  if (!object.is_object()) throw wrong_type("", "an object", object);
  check_keys(object, path);
  const auto variant = [&]() -> std::optional<std::string> {
    const auto value = object.find(kVariantKey);
    if (value == object.end()) return std::nullopt;
    if (!value->is_string()) throw wrong_type(".variant", "as or bs", *value);
    return value->get<std::string>();
  };
  constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
  const auto number = [&](std::string_view key) -> std::optional<std::int64_t> {
    const auto value = object.find(std::string(key));
    if (value == object.end()) return std::nullopt;
    const bool fits = value->is_number_integer() &&
                      (!value->is_number_unsigned() || value->get<std::uint64_t>() <= kMost);
    if (!fits) throw wrong_type(concat(".", key), "an integer", *value);
    return value->get<std::int64_t>();
  };
  return read({path, variant, number}, num_layers);
}

std::optional<LongGen> read_longgen(const GgufFile& file, const std::string& path,
                                    std::string_view architecture, int num_layers) {
  const std::string prefix = gguf_prefix(architecture);
  if (file.find(prefix + kVariantKey) == nullptr) return std::nullopt;
  const auto variant = [&]() -> std::optional<std::string> {
    const auto value = file.get_string(prefix + kVariantKey);
    return value ? std::optional(std::string(*value)) : std::nullopt;
  };
  const auto number = [&](std::string_view key) -> std::optional<std::int64_t> {
    const auto value = file.get_u64(concat(prefix, key));
    if (!value) return std::nullopt;
    // What is too large for an integer is too large for every key.
    return static_cast<std::int64_t>(
        std::min<std::uint64_t>(*value, std::numeric_limits<std::int64_t>::max()));
  };
  return read({path, variant, number}, num_layers);
}

json longgen_json(const LongGen& longgen) {
  json object{{kVariantKey, name_of(longgen.variant)}};
  for (const LongGenField& field : longgen_fields()) {
    object[std::string(field.key)] = longgen.*field.value;
  }
  return object;
}

void set_longgen(const LongGen& longgen, std::string_view architecture, GgufMetadata& metadata) {
  const std::string prefix = gguf_prefix(architecture);
  metadata.set(prefix + kVariantKey, std::string(name_of(longgen.variant)));
  for (const LongGenField& field : longgen_fields()) {
    metadata.set(concat(prefix, field.key), static_cast<std::uint32_t>(longgen.*field.value));
  }
}

}  // namespace perpend
