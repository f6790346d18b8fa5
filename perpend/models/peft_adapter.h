#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "perpend/io/safetensors.h"
#include "perpend/models/model_config.h"
#include "perpend/nn/lora_adapter.h"

namespace perpend {

// How PEFT (PyPI peft) names what a folder of adapters holds.
struct PeftNames {
  static constexpr const char* kConfig = "adapter_config.json";
  static constexpr const char* kTensors = "adapter_model.safetensors";
  // Rows of the embedding, of the tokens that the configuration lists under kTokenIndices.
  static constexpr const char* kTokenRows =
      "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta";
  static constexpr const char* kTokenIndices = "trainable_token_indices";
  static constexpr const char* kEmbedding = "embed_tokens";
  // Of an int8 tensor: behind its name, the name of its scales.
  static constexpr const char* kScale = ".scale";
  // Of the matrix "model.layers.0.mlp.up_proj".
  static std::string down(std::string_view matrix);
  static std::string up(std::string_view matrix);
};

// Low-rank additions to the matrices of a model (arXiv:2106.09685) as PEFT writes them: a folder
// with adapter_config.json and adapter_model.safetensors, which may be sharded as models are.
// Matrices without tensors there have none. What PEFT does not write: a tensor [rows, n] may be of
// int8, with f32 factors [rows] beside it under its name and ".scale".
class PeftAdapter {
 public:
  // Throws IoError naming file and key for what is missing or malformed, Unsupported for adapters
  // of another kind (DoRA, rank-stabilised, biases, trained rows of anything but the embedding).
  static PeftAdapter open(const std::string& folder);

  const std::string& path() const { return path_; }
  // What is said there of ranking, if anything. Throws IoError for what does not fit the model.
  std::optional<BlockRankConfig> blockrank(const ModelConfig& config) const;
  // How it makes the model fill masked tokens, if it does: as "diffusion" in a config.json. Throws
  // IoError.
  std::optional<DiffusionConfig> diffusion() const;

  // What is added to the matrix [outputs, inputs] of that Hugging Face name, f32, its rows in the
  // order in which a model of `config` keeps them; absent when nothing is. Throws IoError naming
  // tensor and shapes for one of another shape, and for one half without the other.
  std::optional<LoraAdapter> find(std::string_view matrix, std::int64_t outputs,
                                  std::int64_t inputs, const ModelConfig& config) const;

  // Rows of the embedding that take the place of the model's, as f32. Throws IoError for tokens
  // outside the vocabulary, and tensors that are missing or of another shape.
  std::vector<TokenRow> token_rows(const ModelConfig& config) const;

  // Throws IoError naming a tensor for which `matrices` have no place.
  void check_all_known(const std::set<std::string>& matrices) const;

 private:
  PeftAdapter(std::string path, std::vector<SafetensorsFile> files)
      : path_(std::move(path)), files_(std::move(files)) {}

  void read_config();
  bool has(const std::string& name) const;
  // Of a tensor that is there, as f32.
  torch::Tensor read(const std::string& name, const std::vector<std::int64_t>& shape) const;

  std::string path_;
  std::vector<SafetensorsFile> files_;
  std::string config_text_;
  int rank_ = 0;
  double alpha_ = 0;
  std::vector<std::int32_t> tokens_;  // whose rows of the embedding are there
};

}  // namespace perpend
