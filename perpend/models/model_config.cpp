#include "perpend/models/model_config.h"

#include <algorithm>
#include <cmath>

#include "perpend/core/error.h"
#include "perpend/models/config_reader.h"
#include "perpend/models/diffusion_config.h"
#include "perpend/models/hugging_face_config.h"
#include "perpend/models/longgen_config.h"

namespace perpend {
namespace {

void check_sizes(const ModelConfig& config, const std::string& path) {
  const auto positive = [&](std::int64_t value, std::string_view name) {
    if (value <= 0 || value > kMaxModelSize) {
      throw IoError(concat(path, ": ", name, ": expected 1 to ", kMaxModelSize, ", found ", value));
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

// The masks of LongGen are causal.
void check_kinds(const ModelConfig& config, const std::string& path) {
  if (config.longgen && config.diffusion) {
    throw IoError(concat(path, ": both longgen and diffusion; a model is one of them"));
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

RotaryConfig read_gguf_rotary(const Checkpoint& checkpoint, const ModelConfig& config) {
  const GgufFile& file = checkpoint.gguf();
  const std::string prefix = config.architecture + ".rope.";
  RotaryConfig rotary;
  rotary.layout = gguf_rotary_layout(config.architecture);
  rotary.rotary_dim = static_cast<int>(
      std::min<std::uint64_t>(file.get_u64(prefix + "dimension_count")
                                  .value_or(static_cast<std::uint64_t>(config.head_dim)),
                              kMaxModelSize));
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
    return static_cast<int>(std::min<std::int64_t>(number(name), kMaxModelSize + 1));
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
  config.diffusion = parse_diffusion(config_json, path, config.architecture);
  config.blockrank = parse_blockrank(config_json, path, limits_of(config));
  check_kinds(config, path);
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
  config.diffusion = read_diffusion(checkpoint.gguf(), path, config.architecture);
  config.blockrank =
      read_blockrank(checkpoint.gguf(), path, config.architecture, limits_of(config));
  check_kinds(config, path);
  return config;
}

ModelConfig changed(ModelConfig config, const ModelChanges& changes) {
  if (!changes.preset.empty()) {
    config.longgen = parse_preset(changes.preset, config.num_layers, config.num_kv_heads);
  }
  if (changes.diffusion) config.diffusion = changes.diffusion;
  check(!(config.longgen && config.diffusion),
        "model: LongGen's masks and diffusion exclude each other");
  if (changes.rope_theta) {
    check(*changes.rope_theta > 0 && std::isfinite(*changes.rope_theta),
          concat("rope-base: expected a positive number, found ", *changes.rope_theta));
    config.rotary.theta = *changes.rope_theta;
  }
  if (changes.context_length) {
    check(*changes.context_length > 0 && *changes.context_length <= kMaxModelSize,
          concat("context: expected 1 to ", kMaxModelSize, " tokens, found ",
                 *changes.context_length));
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
  return std::vector<Mask>(static_cast<std::size_t>(config.num_layers),
                           config.diffusion ? context_mask(*config.diffusion) : Mask::causal());
}

}  // namespace perpend
