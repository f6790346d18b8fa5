#include "perpend/models/hugging_face_config.h"

#include <algorithm>
#include <array>

#include "perpend/models/config_reader.h"

namespace perpend {
namespace {

using nlohmann::json;

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

void check_activation(const ConfigReader& reader, const char* key) {
  const std::string activation = reader.text_or(key, "silu");
  if (activation != "silu") {
    throw Unsupported(
        concat(reader.path(), ": ", key, " '", activation, "' is not built; silu is"));
  }
}

// Qwen2 files carry a window that is switched off by use_sliding_window.
void check_window(const ConfigReader& reader, const ModelConfig& config) {
  const bool windowed = reader.flag_or("use_sliding_window", config.architecture == "mistral");
  if (windowed && reader.has("sliding_window")) {
    throw Unsupported(concat(reader.path(), ": sliding_window ", reader.integer("sliding_window"),
                             ": set it to null and give the window as a mask: --layers "
                             "\"causal & window(...)\""));
  }
}

// Sizes under the names that most families share.
ModelConfig read_usual_sizes(const ConfigReader& reader, ModelConfig config) {
  check_activation(reader, "hidden_act");
  check_window(reader, config);
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
  config.rotary.theta = reader.number_or("rope_theta", 10000.0F);
  return config;
}

// Variants of the network that a config.json of LLaDA can ask for and no published one does.
void check_llada(const ConfigReader& reader) {
  struct Flag {
    const char* key;
    bool expected;
  };
  constexpr std::array kFlags = {Flag{"rope", true},
                                 Flag{"alibi", false},
                                 Flag{"attention_layer_norm", false},
                                 Flag{"scale_logits", false},
                                 Flag{"input_emb_norm", false},
                                 Flag{"multi_query_attention", false},
                                 Flag{"layer_norm_with_affine", true}};
  for (const Flag& flag : kFlags) {
    if (reader.flag_or(flag.key, flag.expected) == flag.expected) continue;
    throw Unsupported(concat(reader.path(), ": ", flag.key, " ", flag.expected ? "false" : "true",
                             " is not built; ", flag.expected ? "true" : "false", " is"));
  }
  struct Choice {
    const char* key;
    const char* expected;
  };
  for (const Choice& choice : {Choice{"block_type", "llama"}, Choice{"layer_norm_type", "rms"}}) {
    const std::string found = reader.text_or(choice.key, choice.expected);
    if (found == choice.expected) continue;
    throw Unsupported(concat(reader.path(), ": ", choice.key, " '", found, "' is not built; ",
                             choice.expected, " is"));
  }
  if (reader.integer_or("block_group_size", 1) != 1) {
    throw Unsupported(concat(reader.path(), ": block_group_size ",
                             reader.integer("block_group_size"), " is not built; 1 is"));
  }
}

ModelConfig read_llada_sizes(const ConfigReader& reader, ModelConfig config) {
  check_llada(reader);
  check_activation(reader, "activation_type");
  config.vocab_size =
      reader.integer(reader.has("embedding_size") ? "embedding_size" : "vocab_size");
  config.model_dim = reader.size("d_model");
  config.ffn_dim = reader.size("mlp_hidden_size");
  config.num_layers = reader.size("n_layers");
  config.num_q_heads = reader.size("n_heads");
  config.num_kv_heads = reader.has("n_kv_heads") ? reader.size("n_kv_heads") : config.num_q_heads;
  config.head_dim = config.model_dim / std::max(1, config.num_q_heads);
  config.context_length = reader.integer_or("max_sequence_length", 1024);
  config.rms_epsilon = reader.number_or("rms_norm_eps", 1e-5F);
  config.tied_embeddings = reader.flag_or("weight_tying", false);
  config.rotary.theta = reader.number_or("rope_theta", 10000.0F);
  return config;
}

}  // namespace

ModelConfig read_hugging_face_config(std::string_view text, const std::string& path) {
  const json object = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) throw IoError(concat(path, ": expected a JSON object"));
  const ConfigReader reader(path, object);
  ModelConfig config;
  config.architecture = reader.text_or("model_type", "");
  constexpr std::array kKnown = {"llama", "mistral", "qwen2"};
  if (std::find(kKnown.begin(), kKnown.end(), config.architecture) == kKnown.end() &&
      !published_diffusion(config.architecture)) {
    throw Unsupported(concat(reader.path(), ": model_type '", config.architecture,
                             "' is not built; llama, mistral and qwen2 are, and for diffusion "
                             "Fast_dLLM_Qwen, llada, Dream and PanguEmbedded"));
  }
  config = config.architecture == "llada" ? read_llada_sizes(reader, config)
                                          : read_usual_sizes(reader, config);
  config.rotary.rotary_dim = config.head_dim;
  config.rotary = read_rope_scaling(reader, config.rotary);
  return config;
}

}  // namespace perpend
