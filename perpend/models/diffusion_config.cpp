#include "perpend/models/diffusion_config.h"

#include <array>
#include <limits>

#include "perpend/io/json_text.h"
#include "perpend/models/config_reader.h"

namespace perpend {
namespace {

using nlohmann::json;

constexpr const char* kAttention = "attention";
constexpr const char* kBlockSize = "block_size";
constexpr const char* kSubBlockSize = "sub_block_size";
constexpr const char* kShift = "shift";
constexpr const char* kMaskTokenId = "mask_token_id";

DiffusionAttention attention_of(std::string_view name, const std::string& path) {
  using enum DiffusionAttention;
  for (const DiffusionAttention attention : {kBlock, kContextCausal, kFull}) {
    if (name == name_of(attention)) return attention;
  }
  throw IoError(concat(path, ": diffusion.", kAttention,
                       ": expected block, context_causal or full, found '", name, "'"));
}

std::int64_t in_range(std::int64_t value, std::int64_t least, std::int64_t most,
                      std::string_view key, const std::string& path) {
  if (value < least || value > most) {
    throw IoError(concat(path, ": ", key, ": expected ", least, " to ", most, ", found ", value));
  }
  return value;
}

std::int64_t block_size_in(std::int64_t value, std::string_view key, const std::string& path) {
  return in_range(value, 1, kMaxModelSize, key, path);
}

// 0 where it is not said.
std::int64_t sub_block_size_in(std::int64_t value, std::int64_t block_size, std::string_view key,
                               const std::string& path) {
  in_range(value, 0, block_size, key, path);
  if (value == 0 || block_size % value == 0) return value;
  throw IoError(concat(path, ": ", key, ": expected a divisor of the block size ", block_size,
                       ", found ", value));
}

std::int32_t token_in(std::int64_t value, std::string_view key, const std::string& path) {
  return static_cast<std::int32_t>(
      in_range(value, 0, std::numeric_limits<std::int32_t>::max(), key, path));
}

DiffusionConfig read_object(const json& object, const std::string& path) {
  if (!object.is_object()) {
    throw IoError(concat(path, ": diffusion: expected an object, found ", object.dump()));
  }
  constexpr std::array kKnown = {kAttention, kBlockSize, kSubBlockSize, kShift, kMaskTokenId};
  for (const auto& [key, value] : object.items()) {
    if (std::find(kKnown.begin(), kKnown.end(), key) == kKnown.end()) {
      throw IoError(concat(path, ": diffusion.", key, ": no such key; expected one of ", kAttention,
                           ", ", kBlockSize, ", ", kSubBlockSize, ", ", kShift, ", ",
                           kMaskTokenId));
    }
  }
  const ConfigReader reader(concat(path, ": diffusion"), object);
  const std::int64_t block_size =
      block_size_in(reader.integer_or(kBlockSize, 32), "diffusion.block_size", path);
  return {.attention = attention_of(reader.text_or(kAttention, ""), path),
          .block_size = block_size,
          .shifted = reader.flag_or(kShift, true),
          .mask_token_id = token_in(reader.integer(kMaskTokenId), "diffusion.mask_token_id", path),
          .sub_block_size = sub_block_size_in(reader.integer_or(kSubBlockSize, 0), block_size,
                                              "diffusion.sub_block_size", path)};
}

std::string key_prefix(std::string_view architecture) {
  return concat(architecture, ".diffusion.");
}

}  // namespace

std::optional<DiffusionConfig> parse_diffusion(std::string_view config_json,
                                               const std::string& path,
                                               std::string_view architecture) {
  const json object = parse_json_object(config_json, path);
  const ConfigReader reader(path, object);
  if (reader.has("diffusion")) return read_object(reader.value("diffusion"), path);
  std::optional<DiffusionConfig> config = published_diffusion(architecture);
  if (!config) return config;
  config->block_size =
      block_size_in(reader.integer_or("bd_size", config->block_size), "bd_size", path);
  if (reader.has(kMaskTokenId)) {
    config->mask_token_id = token_in(reader.integer(kMaskTokenId), kMaskTokenId, path);
    config->mask_token.clear();
  }
  return config;
}

std::optional<DiffusionConfig> read_diffusion(const GgufFile& file, const std::string& path,
                                              std::string_view architecture) {
  const std::string prefix = key_prefix(architecture);
  const auto attention = file.get_string(prefix + kAttention);
  if (!attention) return std::nullopt;
  const auto number = [&](std::string_view key, std::uint64_t otherwise) {
    constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
    return static_cast<std::int64_t>(
        std::min(file.get_u64(concat(prefix, key)).value_or(otherwise), kMost));
  };
  DiffusionConfig config;
  config.attention = attention_of(*attention, path);
  config.block_size = block_size_in(number(kBlockSize, 32), prefix + kBlockSize, path);
  config.sub_block_size =
      sub_block_size_in(number(kSubBlockSize, 0), config.block_size, prefix + kSubBlockSize, path);
  config.shifted = number(kShift, 1) != 0;
  config.mask_token_id =
      token_in(static_cast<std::int64_t>(file.require_u64(prefix + kMaskTokenId)),
               prefix + kMaskTokenId, path);
  return config;
}

DiffusionConfig parse_diffusion_object(std::string_view object, std::string_view name) {
  try {
    return read_object(parse_json_object(object, name), std::string(name));
  } catch (const IoError& error) {
    throw InvalidArgument(error.what());
  }
}

json diffusion_json(const DiffusionConfig& config) {
  json object = {{kAttention, name_of(config.attention)},
                 {kBlockSize, config.block_size},
                 {kShift, config.shifted},
                 {kMaskTokenId, config.mask_token_id}};
  if (config.sub_block_size > 0) object[kSubBlockSize] = config.sub_block_size;
  return object;
}

void set_diffusion(const DiffusionConfig& config, std::string_view architecture,
                   GgufMetadata& metadata) {
  const std::string prefix = key_prefix(architecture);
  metadata.set(prefix + kAttention, std::string(name_of(config.attention)));
  metadata.set(prefix + kBlockSize, static_cast<std::uint32_t>(config.block_size));
  if (config.sub_block_size > 0) {
    metadata.set(prefix + kSubBlockSize, static_cast<std::uint32_t>(config.sub_block_size));
  }
  metadata.set(prefix + kShift, static_cast<std::uint32_t>(config.shifted));
  metadata.set(prefix + kMaskTokenId, static_cast<std::uint32_t>(config.mask_token_id));
}

}  // namespace perpend
