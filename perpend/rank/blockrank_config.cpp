#include "perpend/rank/blockrank_config.h"

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/json_text.h"

namespace perpend {
namespace {

using nlohmann::json;

// The keys of one `blockrank` object.
class Keys {
 public:
  Keys(const json& object, std::string path) : object_(object), path_(std::move(path)) {
    if (!object.is_object()) throw IoError(concat(path_, ": expected an object"));
  }

  template <class Value>
  void read(const char* key, Value& value, double least, double most) {
    if (!object_.contains(key)) return;
    ++num_read_;
    const json& given = object_[key];
    const bool whole = std::is_integral_v<Value>;
    const bool fits = (whole ? given.is_number_integer() : given.is_number()) &&
                      given.get<double>() >= least && given.get<double>() <= most;
    if (!fits) {
      throw IoError(concat(path_, ": key '", key, "': expected ", whole ? "an integer" : "a number",
                           " from ", least, " to ", most, ", found ", given.dump()));
    }
    value = given.get<Value>();
  }

  void check_all_read() const {
    if (num_read_ == object_.size()) return;
    throw IoError(concat(path_,
                         ": has a key that is not known; layer, lambda, tau, "
                         "query_pos_offset, chunk_len and signal_tokens are"));
  }

 private:
  const json& object_;
  std::string path_;
  std::size_t num_read_ = 0;
};

}  // namespace

BlockRankConfig default_blockrank_config(const ModelConfig& config) {
  BlockRankConfig rank;
  rank.layer = std::min((5 * config.num_layers + 3) / 8, config.num_layers - 1);
  rank.query_pos_offset = config.context_length / 2;
  rank.chunk_len =
      std::max<std::int64_t>(1, std::min<std::int64_t>(512, config.context_length / 4));
  return rank;
}

BlockRankConfig read_blockrank_config(const Checkpoint& checkpoint, const ModelConfig& config) {
  BlockRankConfig rank = default_blockrank_config(config);
  if (checkpoint.kind() == Checkpoint::Kind::kGguf) return rank;
  const std::string path = checkpoint.path() + "/config.json";
  const json object = parse_json_object(checkpoint.config_json(), path);
  if (!object.contains("blockrank")) return rank;
  Keys keys(object["blockrank"], path + ": blockrank");
  const auto last_position = static_cast<double>(config.context_length - 1);
  keys.read("layer", rank.layer, 0, config.num_layers - 1);
  keys.read("lambda", rank.lambda, 0, 1e6);
  keys.read("tau", rank.tau, 1e-6, 1e6);
  keys.read("query_pos_offset", rank.query_pos_offset, 1, last_position);
  keys.read("chunk_len", rank.chunk_len, 1, last_position);
  keys.read("signal_tokens", rank.signal_tokens, 1, 1024);
  keys.check_all_read();
  return rank;
}

}  // namespace perpend
