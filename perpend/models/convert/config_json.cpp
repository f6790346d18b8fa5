#include "perpend/models/convert/config_json.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/json_text.h"
#include "perpend/models/convert/llama3_rope.h"
#include "perpend/models/diffusion_config.h"
#include "perpend/models/longgen_config.h"
#include "perpend/models/weights.h"

namespace perpend {
namespace {

using nlohmann::json;

const char* dtype_name(BlockFormat format) {
  switch (format) {
    case BlockFormat::kF32:
      return "float32";
    case BlockFormat::kF16:
      return "float16";
    case BlockFormat::kBF16:
      return "bfloat16";
    default:
      bug("dtype_name: a Hugging Face folder holds no block formats");
  }
}

bool has_bias(const Checkpoint& source, const ModelConfig& config, WeightRole role) {
  return config.num_layers > 0 && find_bias(source, config, role, 0) != nullptr;
}

json rope_scaling(const Checkpoint& source, const ModelConfig& config) {
  const RotaryConfig& rotary = config.rotary;
  const std::string key = config.architecture + ".rope.scaling.original_context_length";
  const auto original = static_cast<float>(source.gguf().get_u64(key).value_or(0));
  const auto rule = llama3_rule(rotary, original, source.path());
  if (rule && rotary.linear_factor != 1) {
    throw Unsupported(concat(source.path(),
                             ": both linear scaling and divisors of rotary frequencies; "
                             "config.json can name one"));
  }
  if (rule) {
    return {
        {"rope_type", "llama3"},
        {"factor", shortest_decimal(rule->factor)},
        {"low_freq_factor", shortest_decimal(rule->low_freq_factor)},
        {"high_freq_factor", shortest_decimal(rule->high_freq_factor)},
        {"original_max_position_embeddings", static_cast<std::int64_t>(rule->original_context)}};
  }
  if (rotary.linear_factor != 1) {
    return {{"rope_type", "linear"},
            {"type", "linear"},
            {"factor", shortest_decimal(rotary.linear_factor)}};
  }
  return nullptr;
}

void add_family(const Checkpoint& source, const ModelConfig& config, json& object) {
  using enum WeightRole;
  const auto any_bias = [&](std::initializer_list<WeightRole> roles) {
    return std::any_of(roles.begin(), roles.end(),
                       [&](WeightRole role) { return has_bias(source, config, role); });
  };
  object["model_type"] = config.architecture;
  if (config.architecture == "qwen2") {
    object["architectures"] = {"Qwen2ForCausalLM"};
    object["use_sliding_window"] = false;
    return;
  }
  object["architectures"] = {"LlamaForCausalLM"};
  object["attention_bias"] = any_bias({kQuery, kKey, kValue, kAttentionOutput});
  object["mlp_bias"] = any_bias({kGate, kUp, kDown});
}

// Newer files keep theta inside "rope_parameters", which overrules the one outside.
void set_rope_theta(float theta, json& object) {
  object["rope_theta"] = shortest_decimal(theta);
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    const auto inner = object.find(key);
    if (inner != object.end() && inner->is_object() && inner->contains("rope_theta")) {
      (*inner)["rope_theta"] = shortest_decimal(theta);
    }
  }
}

// One id, or the list of all that end a text.
json eos_ids(const SpecialTokenIds& ids) {
  if (ids.other_ends.empty()) return ids.eos ? json(*ids.eos) : json();
  json list = json::array();
  if (ids.eos) list.push_back(*ids.eos);
  for (const std::int32_t id : ids.other_ends) list.push_back(id);
  return list;
}

void add_ids(const SpecialTokenIds& ids, json& object) {
  if (ids.bos) object["bos_token_id"] = *ids.bos;
  if (const json eos = eos_ids(ids); !eos.is_null()) object["eos_token_id"] = eos;
  if (ids.pad) object["pad_token_id"] = *ids.pad;
}

}  // namespace

std::string write_config_json(const Checkpoint& source, const ModelConfig& config,
                              const SpecialTokenIds& ids, BlockFormat format) {
  json object{{"hidden_act", "silu"},
              {"hidden_size", config.model_dim},
              {"intermediate_size", config.ffn_dim},
              {"num_hidden_layers", config.num_layers},
              {"num_attention_heads", config.num_q_heads},
              {"num_key_value_heads", config.num_kv_heads},
              {"head_dim", config.head_dim},
              {"max_position_embeddings", config.context_length},
              {"rms_norm_eps", shortest_decimal(config.rms_epsilon)},
              {"rope_theta", shortest_decimal(config.rotary.theta)},
              {"rope_scaling", rope_scaling(source, config)},
              {"tie_word_embeddings", config.tied_embeddings},
              {"torch_dtype", dtype_name(format)},
              {"use_cache", true},
              {"vocab_size", config.vocab_size}};
  if (config.longgen) object["longgen"] = longgen_json(*config.longgen);
  if (config.diffusion) object["diffusion"] = diffusion_json(*config.diffusion);
  if (config.blockrank) object["blockrank"] = blockrank_json(*config.blockrank);
  add_family(source, config, object);
  add_ids(ids, object);
  if (const auto name = source.gguf().get_string("general.name")) object["_name_or_path"] = *name;
  return json_document(object, source.path());
}

std::string changed_config_json(const Checkpoint& source, const ModelConfig& config,
                                const ModelChanges& changes, BlockFormat format) {
  const std::string path = source.path() + "/config.json";
  json object = parse_json_object(source.config_json(), path);
  // Transformers wrote "torch_dtype" before version 5 and reads both.
  object.erase("dtype");
  object["torch_dtype"] = dtype_name(format);
  if (changes.context_length) object["max_position_embeddings"] = *changes.context_length;
  if (changes.rope_theta) set_rope_theta(*changes.rope_theta, object);
  if (!changes.preset.empty()) object["longgen"] = longgen_json(*config.longgen);
  if (changes.diffusion) object["diffusion"] = diffusion_json(*config.diffusion);
  return json_document(object, path);
}

std::string write_generation_config_json(const SpecialTokenIds& ids) {
  json object = json::object();
  add_ids(ids, object);
  return object.empty() ? "" : json_document(object, "generation_config.json");
}

}  // namespace perpend
