#include "perpend/models/model_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/models/longgen_config.h"

namespace perpend {
namespace {

using nlohmann::json;

constexpr std::int64_t kMaxSize = 1 << 24;  // of any one dimension: keeps products in 64 bits

void check_sizes(const ModelConfig& config, const std::string& path) {
  const auto positive = [&](std::int64_t value, std::string_view name) {
    if (value <= 0 || value > kMaxSize) {
      throw IoError(concat(path, ": ", name, ": expected 1 to ", kMaxSize, ", found ", value));
    }
  };
  positive(config.vocab_size, "vocabulary size");
  positive(config.model_dim, "embedding length");
  positive(config.ffn_dim, "feed-forward length");
  positive(config.num_layers, "number of layers");
  positive(config.num_q_heads, "number of query heads");
  positive(config.num_kv_heads, "number of key/value heads");
  positive(config.head_dim, "head dimension");
  positive(config.context_length, "context length");
  if (config.num_q_heads % config.num_kv_heads != 0) {
    throw IoError(concat(path, ": query heads must be a multiple of key/value heads (",
                         config.num_q_heads, " vs ", config.num_kv_heads, ")"));
  }
}

// Numbers that would turn every position, and so every answer, into NaN.
void check_constants(const ModelConfig& config, const std::string& path) {
  const auto positive = [&](float value, std::string_view name) {
    if (!(value > 0) || !std::isfinite(value)) {
      throw IoError(concat(path, ": ", name, ": expected a positive number, found ", value));
    }
  };
  const RotaryConfig& rotary = config.rotary;
  if (rotary.rotary_dim < 2 || rotary.rotary_dim > config.head_dim || rotary.rotary_dim % 2 != 0) {
    throw IoError(concat(path, ": rotary dimensions: expected an even number from 2 to ",
                         config.head_dim, " (head dimension), found ", rotary.rotary_dim));
  }
  positive(config.rms_epsilon, "epsilon of the norms");
  positive(rotary.theta, "rope theta");
  positive(rotary.linear_factor, "rope scaling factor");
  for (float divisor : rotary.frequency_divisors) positive(divisor, "rope_freqs.weight");
  if (!rotary.llama3) return;
  positive(rotary.llama3->factor, "rope scaling factor");
  positive(rotary.llama3->low_freq_factor, "rope scaling low_freq_factor");
  positive(rotary.llama3->original_context, "rope scaling original_max_position_embeddings");
  positive(rotary.llama3->high_freq_factor - rotary.llama3->low_freq_factor,
           "rope scaling high_freq_factor less low_freq_factor");
}

// --- GGUF
// -------------------------------------------------------------------------------------------

RotaryConfig read_gguf_rotary(const Checkpoint& checkpoint, const ModelConfig& config) {
  const GgufFile& file = checkpoint.gguf();
  const std::string prefix = config.architecture + ".rope.";
  RotaryConfig rotary;
  rotary.layout = gguf_rotary_layout(config.architecture);
  rotary.rotary_dim = static_cast<int>(
      std::min<std::uint64_t>(file.get_u64(prefix + "dimension_count")
                                  .value_or(static_cast<std::uint64_t>(config.head_dim)),
                              kMaxSize));
  rotary.theta = static_cast<float>(file.get_f64(prefix + "freq_base").value_or(10000.0));
  const std::string_view scaling = file.get_string(prefix + "scaling.type").value_or("none");
  if (scaling == "linear") {
    rotary.linear_factor = static_cast<float>(file.get_f64(prefix + "scaling.factor").value_or(1));
  } else if (scaling != "none") {
    throw Unsupported(concat(checkpoint.path(), ": ", prefix, "scaling.type '", scaling,
                             "' is not built; none and linear are"));
  }
  if (const StoredTensor* divisors = checkpoint.tensor("rope_freqs.weight")) {
    if (divisors->shape != std::vector<std::int64_t>{rotary.rotary_dim / 2}) {
      throw IoError(concat(checkpoint.path(), ": rope_freqs.weight: expected ",
                           rotary.rotary_dim / 2, " values"));
    }
    rotary.frequency_divisors.resize(static_cast<std::size_t>(rotary.rotary_dim / 2));
    dequantize_row(divisors->format, divisors->bytes, rotary.frequency_divisors);
  }
  return rotary;
}

ModelConfig read_gguf_config(const Checkpoint& checkpoint) {
  const GgufFile& file = checkpoint.gguf();
  ModelConfig config;
  config.architecture = std::string(file.require_string("general.architecture"));
  if (config.architecture != "llama" && config.architecture != "qwen2") {
    throw Unsupported(concat(checkpoint.path(), ": general.architecture '", config.architecture,
                             "' is not built; llama and qwen2 are"));
  }
  const auto key = [&](std::string_view name) { return concat(config.architecture, ".", name); };
  const auto number = [&](std::string_view name) {
    return static_cast<std::int64_t>(
        std::min<std::uint64_t>(file.require_u64(key(name)), std::uint64_t{1} << 40));
  };
  const auto size = [&](std::string_view name) {
    return static_cast<int>(std::min<std::int64_t>(number(name), kMaxSize + 1));
  };
  config.model_dim = size("embedding_length");
  config.ffn_dim = size("feed_forward_length");
  config.num_layers = size("block_count");
  config.num_q_heads = size("attention.head_count");
  config.num_kv_heads = file.find(key("attention.head_count_kv")) != nullptr
                            ? size("attention.head_count_kv")
                            : config.num_q_heads;
  config.context_length = number("context_length");
  config.head_dim = file.find(key("attention.key_length")) != nullptr
                        ? size("attention.key_length")
                        : config.model_dim / std::max(1, config.num_q_heads);
  config.rms_epsilon =
      static_cast<float>(file.get_f64(key("attention.layer_norm_rms_epsilon")).value_or(1e-5));
  const StoredTensor* embedding = checkpoint.tensor("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2) {
    throw IoError(concat(checkpoint.path(), ": tensor 'token_embd.weight': expected a matrix"));
  }
  config.vocab_size = embedding->shape[0];
  config.tied_embeddings = checkpoint.tensor("output.weight") == nullptr;
  config.rotary = read_gguf_rotary(checkpoint, config);
  return config;
}

// --- Hugging Face
// -----------------------------------------------------------------------------------

class ConfigReader {
 public:
  ConfigReader(std::string path, const json& object) : path_(std::move(path)), object_(object) {}

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
    return static_cast<int>(std::clamp<std::int64_t>(integer(key), -1, kMaxSize + 1));
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
  const json& value(const char* key) const { return object_[key]; }
  const std::string& path() const { return path_; }

 private:
  IoError wrong_type(const char* key, std::string_view expected) const {
    return IoError(
        concat(path_, ": key '", key, "': expected ", expected, ", found ", object_[key].dump()));
  }

  std::string path_;
  const json& object_;
};

RotaryConfig read_rope_scaling(const ConfigReader& reader, RotaryConfig rotary) {
  // Newer files keep theta and the scaling together under rope_parameters.
  const char* key = reader.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (!reader.has(key)) return rotary;
  const ConfigReader scaling(reader.path(), reader.value(key));
  rotary.theta = scaling.number_or("rope_theta", rotary.theta);
  const std::string type = scaling.text_or("rope_type", scaling.text_or("type", "default"));
  if (type == "default") return rotary;
  if (type == "linear") {
    rotary.linear_factor = scaling.number_or("factor", 1.0F);
  } else if (type == "llama3") {
    RotaryConfig::Llama3 rule;
    rule.factor = scaling.number_or("factor", rule.factor);
    rule.low_freq_factor = scaling.number_or("low_freq_factor", rule.low_freq_factor);
    rule.high_freq_factor = scaling.number_or("high_freq_factor", rule.high_freq_factor);
    rule.original_context =
        scaling.number_or("original_max_position_embeddings", rule.original_context);
    rotary.llama3 = rule;
  } else {
    throw Unsupported(concat(reader.path(), ": ", key, " type '", type,
                             "' is not built; default, linear and llama3 are"));
  }
  return rotary;
}

ModelConfig read_hugging_face_config(std::string_view text, const std::string& path) {
  const json object = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) throw IoError(concat(path, ": expected a JSON object"));
  const ConfigReader reader(path, object);
  ModelConfig config;
  config.architecture = reader.text_or("model_type", "");
  constexpr std::array kKnown = {"llama", "mistral", "qwen2"};
  if (std::find(kKnown.begin(), kKnown.end(), config.architecture) == kKnown.end()) {
    throw Unsupported(concat(reader.path(), ": model_type '", config.architecture,
                             "' is not built; llama, mistral and qwen2 are"));
  }
  const std::string activation = reader.text_or("hidden_act", "silu");
  if (activation != "silu") {
    throw Unsupported(
        concat(reader.path(), ": hidden_act '", activation, "' is not built; silu is"));
  }
  // Qwen2 files carry a window that is switched off by use_sliding_window.
  const bool windowed = reader.flag_or("use_sliding_window", config.architecture == "mistral");
  if (windowed && reader.has("sliding_window")) {
    throw Unsupported(concat(reader.path(), ": sliding_window ", reader.integer("sliding_window"),
                             ": set it to null and give the window as a mask: --layers "
                             "\"causal & window(...)\""));
  }
  config.vocab_size = reader.integer("vocab_size");
  config.model_dim = reader.size("hidden_size");
  config.ffn_dim = reader.size("intermediate_size");
  config.num_layers = reader.size("num_hidden_layers");
  config.num_q_heads = reader.size("num_attention_heads");
  config.num_kv_heads =
      reader.has("num_key_value_heads") ? reader.size("num_key_value_heads") : config.num_q_heads;
  config.head_dim = reader.has("head_dim") ? reader.size("head_dim")
                                           : config.model_dim / std::max(1, config.num_q_heads);
  config.context_length = reader.integer_or("max_position_embeddings", 2048);
  config.rms_epsilon = reader.number_or("rms_norm_eps", 1e-6F);
  config.tied_embeddings = reader.flag_or("tie_word_embeddings", false);
  config.rotary.rotary_dim = config.head_dim;
  config.rotary.theta = reader.number_or("rope_theta", 10000.0F);
  config.rotary = read_rope_scaling(reader, config.rotary);
  return config;
}

}  // namespace

BlockRankLimits limits_of(const ModelConfig& config) {
  return {config.num_layers, config.context_length};
}

// q and k of "llama" files are stored for interleaved rotation; all others keep the halves apart.
RotaryLayout gguf_rotary_layout(std::string_view architecture) {
  return architecture == "llama" ? RotaryLayout::kInterleaved : RotaryLayout::kHalfSplit;
}

ModelConfig parse_model_config(std::string_view config_json, const std::string& path) {
  ModelConfig config = read_hugging_face_config(config_json, path);
  check_sizes(config, path);
  check_constants(config, path);
  config.longgen = parse_longgen(config_json, path, config.num_layers);
  config.blockrank = parse_blockrank(config_json, path, limits_of(config));
  return config;
}

ModelConfig read_model_config(const Checkpoint& checkpoint) {
  const std::string& path = checkpoint.path();
  if (checkpoint.kind() == Checkpoint::Kind::kHuggingFace) {
    return parse_model_config(checkpoint.config_json(), path + "/config.json");
  }
  ModelConfig config = read_gguf_config(checkpoint);
  check_sizes(config, path);
  check_constants(config, path);
  config.longgen = read_longgen(checkpoint.gguf(), path, config.architecture, config.num_layers);
  config.blockrank =
      read_blockrank(checkpoint.gguf(), path, config.architecture, limits_of(config));
  return config;
}

ModelConfig changed(ModelConfig config, const ModelChanges& changes) {
  if (!changes.preset.empty()) {
    config.longgen = parse_preset(changes.preset, config.num_layers, config.num_kv_heads);
  }
  if (changes.rope_theta) {
    check(*changes.rope_theta > 0 && std::isfinite(*changes.rope_theta),
          concat("rope-base: expected a positive number, found ", *changes.rope_theta));
    config.rotary.theta = *changes.rope_theta;
  }
  if (changes.context_length) {
    check(*changes.context_length > 0 && *changes.context_length <= kMaxSize,
          concat("context: expected 1 to ", kMaxSize, " tokens, found ", *changes.context_length));
    config.context_length = *changes.context_length;
  }
  if (changes.num_layers) {
    check(*changes.num_layers > 0 && *changes.num_layers <= config.num_layers,
          concat("num_layers: expected 1 to ", config.num_layers, ", found ", *changes.num_layers));
    check(!config.longgen, "num_layers: the masks of longgen are those of all layers");
    config.num_layers = *changes.num_layers;
  }
  return config;
}

BlockRankConfig blockrank_config(const ModelConfig& config) {
  return config.blockrank.value_or(default_blockrank_config(limits_of(config)));
}

std::vector<Mask> default_masks(const ModelConfig& config) {
  if (config.longgen) return layer_masks(*config.longgen, config.num_layers);
  return std::vector<Mask>(static_cast<std::size_t>(config.num_layers), Mask::causal());
}

}  // namespace perpend
