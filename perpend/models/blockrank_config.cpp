#include "perpend/models/blockrank_config.h"

#include <algorithm>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/json_text.h"

namespace perpend {
namespace {

using nlohmann::json;

struct Field {
  std::string_view key;
  std::variant<int BlockRankConfig::*, float BlockRankConfig::*, std::int64_t BlockRankConfig::*>
      value;
  double least;
  double most;

  bool is_whole() const { return !std::holds_alternative<float BlockRankConfig::*>(value); }
};

std::vector<Field> fields_of(const BlockRankLimits& limits) {
  const auto last_position = static_cast<double>(limits.context_length - 1);
  return {{"layer", &BlockRankConfig::layer, 0, limits.num_layers - 1.0},
          {"lambda", &BlockRankConfig::lambda, 0, 1e6},
          {"tau", &BlockRankConfig::tau, 1e-6, 1e6},
          {"query_pos_offset", &BlockRankConfig::query_pos_offset, 1, last_position},
          {"chunk_len", &BlockRankConfig::chunk_len, 1, last_position},
          {"signal_tokens", &BlockRankConfig::signal_tokens, 1, 1024}};
}

void set_field(BlockRankConfig& rank, const Field& field, double given, const std::string& path,
               std::string_view found) {
  if (!(given >= field.least && given <= field.most)) {
    throw IoError(concat(path, ": key '", field.key, "': expected ",
                         field.is_whole() ? "an integer" : "a number", " from ", field.least,
                         " to ", field.most, ", found ", found));
  }
  std::visit(
      [&](auto member) {
        auto& value = rank.*member;
        value = static_cast<std::remove_reference_t<decltype(value)>>(given);
      },
      field.value);
}

std::string gguf_key_prefix(std::string_view architecture) {
  return concat(architecture, ".blockrank.");
}

}  // namespace

BlockRankConfig default_blockrank_config(const BlockRankLimits& limits) {
  BlockRankConfig rank;
  rank.layer = std::min((5 * limits.num_layers + 3) / 8, limits.num_layers - 1);
  rank.query_pos_offset = limits.context_length / 2;
  rank.chunk_len =
      std::max<std::int64_t>(1, std::min<std::int64_t>(512, limits.context_length / 4));
  return rank;
}

std::optional<BlockRankConfig> parse_blockrank(std::string_view json_text, const std::string& path,
                                               const BlockRankLimits& limits) {
  if (json_text.find("\"blockrank\"") == std::string_view::npos) return std::nullopt;
  const json whole = parse_json_object(json_text, path);
  const auto found = whole.find("blockrank");
  if (found == whole.end() || found->is_null()) return std::nullopt;
  const std::string where = path + ": blockrank";
  if (!found->is_object()) throw IoError(concat(where, ": expected an object"));
  BlockRankConfig rank = default_blockrank_config(limits);
  std::size_t num_read = 0;
  for (const Field& field : fields_of(limits)) {
    const auto given = found->find(std::string(field.key));
    if (given == found->end()) continue;
    ++num_read;
    const bool fits = field.is_whole() ? given->is_number_integer() : given->is_number();
    // What is of another type is in no range.
    set_field(rank, field, fits ? given->get<double>() : field.least - 1, where, given->dump());
  }
  if (num_read != found->size()) {
    throw IoError(concat(where,
                         ": has a key that is not known; layer, lambda, tau, "
                         "query_pos_offset, chunk_len and signal_tokens are"));
  }
  return rank;
}

std::optional<BlockRankConfig> read_blockrank(const GgufFile& file, const std::string& path,
                                              std::string_view architecture,
                                              const BlockRankLimits& limits) {
  const std::string prefix = gguf_key_prefix(architecture);
  BlockRankConfig rank = default_blockrank_config(limits);
  bool has_any = false;
  for (const Field& field : fields_of(limits)) {
    const std::string key = concat(prefix, field.key);
    if (file.find(key) == nullptr) continue;
    has_any = true;
    const double given = field.is_whole() ? static_cast<double>(file.get_u64(key).value_or(0))
                                          : file.get_f64(key).value_or(0);
    set_field(rank, field, given, concat(path, ": ", gguf_key_prefix(architecture)), concat(given));
  }
  return has_any ? std::optional(rank) : std::nullopt;
}

json blockrank_json(const BlockRankConfig& rank) {
  return {{"layer", rank.layer},
          {"lambda", shortest_decimal(rank.lambda)},
          {"tau", shortest_decimal(rank.tau)},
          {"query_pos_offset", rank.query_pos_offset},
          {"chunk_len", rank.chunk_len},
          {"signal_tokens", rank.signal_tokens}};
}

void set_blockrank(const BlockRankConfig& rank, std::string_view architecture,
                   GgufMetadata& metadata) {
  const std::string prefix = gguf_key_prefix(architecture);
  metadata.set(prefix + "layer", static_cast<std::uint32_t>(rank.layer));
  metadata.set(prefix + "lambda", rank.lambda);
  metadata.set(prefix + "tau", rank.tau);
  metadata.set(prefix + "query_pos_offset", static_cast<std::uint32_t>(rank.query_pos_offset));
  metadata.set(prefix + "chunk_len", static_cast<std::uint32_t>(rank.chunk_len));
  metadata.set(prefix + "signal_tokens", static_cast<std::uint32_t>(rank.signal_tokens));
}

}  // namespace perpend
