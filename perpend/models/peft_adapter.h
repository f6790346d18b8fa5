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
  // Of the matrix "model.layers.0.mlp.up_proj".
  static std::string down(std::string_view matrix);
  static std::string up(std::string_view matrix);
};

// Low-rank additions to the matrices of a model (arXiv:2106.09685) as PEFT writes them: a folder
// with adapter_config.json and adapter_model.safetensors. Matrices without tensors there have none.
class PeftAdapter {
 public:
  // Throws IoError naming file and key for what is missing or malformed, Unsupported for adapters
  // of another kind (DoRA, rank-stabilised, biases).
  static PeftAdapter open(const std::string& folder);

  const std::string& path() const { return path_; }
  // What is said there of ranking, if anything. Throws IoError for what does not fit the model.
  std::optional<BlockRankConfig> blockrank(const ModelConfig& config) const;

  // What is added to the matrix [outputs, inputs] of that Hugging Face name, f32, its rows in the
  // order in which a model of `config` keeps them; absent when nothing is. Throws IoError naming
  // tensor and shapes for one of another shape, and for one half without the other.
  std::optional<LoraAdapter> find(std::string_view matrix, std::int64_t outputs,
                                  std::int64_t inputs, const ModelConfig& config) const;

  // Throws IoError naming a tensor for which `matrices` have no place.
  void check_all_known(const std::set<std::string>& matrices) const;

 private:
  PeftAdapter(std::string path, SafetensorsFile file)
      : path_(std::move(path)), file_(std::move(file)) {}

  void read_config();

  std::string path_;
  SafetensorsFile file_;
  std::string config_text_;
  int rank_ = 0;
  double alpha_ = 0;
};

}  // namespace perpend
