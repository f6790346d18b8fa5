#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include <torch/types.h>

#include "perpend/io/checkpoint.h"
#include "perpend/models/model_config.h"
#include "perpend/models/peft_adapter.h"
#include "perpend/nn/linear.h"

namespace perpend {

// What a weight of the Llama family is for; checkpoints name the same thing differently.
enum class WeightRole {
  kEmbedding,
  kAttentionNorm,
  kQuery,
  kKey,
  kValue,
  kAttentionOutput,
  kMlpNorm,
  kGate,
  kUp,
  kDown,
  kFinalNorm,
  kHead,
};

// The tensor's name in a checkpoint of that kind and architecture, with ".weight" or ".bias";
// `layer` counts from 0 and is ignored for roles outside layers.
std::string weight_name(Checkpoint::Kind kind, std::string_view architecture, WeightRole role,
                        int layer, std::string_view suffix = ".weight");

// [outputs, inputs] of a matrix, or [size] of a vector.
std::vector<std::int64_t> weight_shape(const ModelConfig& config, WeightRole role);

// Whether the family of that architecture has a bias there.
bool family_has_bias(std::string_view architecture, WeightRole role);

// A weight of `checkpoint`. Throws IoError naming it when it is missing or of another shape.
const StoredTensor& find_weight(const Checkpoint& checkpoint, const ModelConfig& config,
                                WeightRole role, int layer);
// Its bias, [outputs]; null when there is none. Throws IoError for one of another shape.
const StoredTensor* find_bias(const Checkpoint& checkpoint, const ModelConfig& config,
                              WeightRole role, int layer);

// A tensor of a model and what it is.
struct ModelParameter {
  std::vector<WeightRole> roles;  // whose rows it holds, one role after another
  int layer = 0;                  // 0 outside layers
  bool is_bias = false;
  torch::Tensor tensor;
};

// Where a model's layers get their weights from.
class ModelWeights {
 public:
  virtual ~ModelWeights() = default;

  // One Linear of the outputs of all `roles`, in their order.
  virtual Linear linear(std::initializer_list<WeightRole> roles, WeightForm form,
                        const Context& context, int layer) const = 0;
  // A vector as f32.
  virtual torch::Tensor vector(WeightRole role, const Context& context, int layer) const = 0;
};

// The matrices of all layers by their Hugging Face names, without ".weight": what adapters change.
std::set<std::string> layer_matrices(const ModelConfig& config);

// Finds the weights of a checkpoint by role, checks their shapes and hands them to layers.
class WeightReader final : public ModelWeights {
 public:
  // Borrows all of them. What `adapter` adds is merged into each matrix as it is read: in f32, or,
  // where blocks stay packed, in Q8_0, the finest of the formats whose products run in integers.
  WeightReader(const Checkpoint& checkpoint, const ModelConfig& config,
               const PeftAdapter* adapter = nullptr)
      : checkpoint_(checkpoint), config_(config), adapter_(adapter) {}

  // With biases where the file has them. Throws IoError naming a tensor that is missing or of
  // another shape.
  Linear linear(std::initializer_list<WeightRole> roles, WeightForm form, const Context& context,
                int layer) const override;
  torch::Tensor vector(WeightRole role, const Context& context, int layer) const override;

 private:
  std::optional<LoraAdapter> adapter_of(WeightRole role, int layer) const;
  // Merges the adapters of `roles`, if there are any, and lets `sources` point at `merged`.
  void merge_adapters(std::initializer_list<WeightRole> roles, int layer, WeightForm form,
                      const Context& context, std::vector<WeightSource>& sources,
                      std::vector<std::vector<std::byte>>& merged) const;

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  const PeftAdapter* adapter_;
};

}  // namespace perpend
