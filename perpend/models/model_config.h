#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perpend/io/checkpoint.h"
#include "perpend/models/blockrank_config.h"
#include "perpend/models/diffusion.h"
#include "perpend/models/longgen.h"
#include "perpend/nn/rotary.h"

namespace perpend {

// Sizes and constants of a model of the Llama family.
struct ModelConfig {
  std::string architecture;  // as model_type: "llama", "qwen2", "mistral", "Dream", ...
  std::int64_t vocab_size = 0;
  int model_dim = 0;
  int ffn_dim = 0;
  int num_layers = 0;
  int num_q_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  std::int64_t context_length = 0;
  float rms_epsilon = 1e-5F;
  bool tied_embeddings = false;
  RotaryConfig rotary;
  std::optional<LongGen> longgen;            // absent: every layer is causal
  std::optional<DiffusionConfig> diffusion;  // absent: tokens come one after another
  std::optional<BlockRankConfig> blockrank;  // absent: see blockrank_config()
  bool has_head = true;                      // false: layers alone, which give no logits
};

// What is to differ from what a checkpoint says.
struct ModelChanges {
  std::string preset = {};                          // see parse_preset(); empty: none
  std::optional<DiffusionConfig> diffusion = {};    // how it fills masked tokens
  std::optional<float> rope_theta = {};             // base of the rotary frequencies
  std::optional<std::int64_t> context_length = {};  // tokens that the model may be given
  std::optional<int> num_layers = {};               // the first so many alone
};

// How GGUF files of an architecture store q and k.
RotaryLayout gguf_rotary_layout(std::string_view architecture);

// Reads GGUF metadata or config.json. Throws IoError for a missing or ill-typed field, Unsupported
// for an architecture, activation, sliding window or position scaling that is not built; each names
// the file and the key.
ModelConfig read_model_config(const Checkpoint& checkpoint);
// Of the text of a config.json; `path` begins errors.
ModelConfig parse_model_config(std::string_view config_json, const std::string& path);

// Throws InvalidArgument for a preset that does not fit the model and numbers out of range.
ModelConfig changed(ModelConfig config, const ModelChanges& changes);

// How it ranks: as its files say, or by default.
BlockRankConfig blockrank_config(const ModelConfig& config);

// The mask of each layer as the model itself wants it for tokens that are final: LongGen's, that of
// its diffusion, or causal everywhere.
std::vector<Mask> default_masks(const ModelConfig& config);

}  // namespace perpend
