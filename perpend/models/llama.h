#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "perpend/models/language_model.h"
#include "perpend/models/weights.h"
#include "perpend/nn/gated_mlp.h"
#include "perpend/nn/rms_norm.h"
#include "perpend/nn/self_attention.h"

namespace perpend {

// Decoder-only transformers of the Llama shape: Llama 2 and 3 (arXiv:2307.09288, arXiv:2407.21783),
// SmolLM2, Mistral without its window, Qwen2 and Qwen2.5 (biases on q, k, v).
class Llama final : public LanguageModel {
 public:
  // Reads and packs all weights. Throws IoError naming a tensor that is missing or of another
  // shape.
  Llama(ModelConfig config, const WeightReader& weights, LinearMode mode, Context& context);

  const ModelConfig& config() const override { return config_; }
  std::size_t num_bytes() const override;
  torch::Tensor forward(const ForwardInput& input, Context& context) const override;
  TurnedHeads heads(const ForwardInput& input, const HeadRowsOf& wanted,
                    Context& context) const override;

 private:
  struct Layer {
    RmsNorm attention_norm;
    SelfAttention attention;
    RmsNorm mlp_norm;
    GatedMlp mlp;
  };

  Layer read_layer(int index, const WeightReader& weights, LinearMode mode,
                   const Context& context) const;
  AttentionBatch make_batch(const ForwardInput& input, Context& context) const;
  // Hidden states [rows, model_dim] after the first `num_layers` layers.
  torch::Tensor run_layers(const ForwardInput& input, const AttentionBatch& batch, int num_layers,
                           const std::function<void(int)>& progress, Context& context) const;
  void add_mlp(const Layer& layer, const torch::Tensor& x, Context& context) const;
  const Linear& head() const { return config_.tied_embeddings ? embedding_ : head_; }

  ModelConfig config_;
  std::shared_ptr<RotaryTables> rotary_;
  Linear embedding_;
  std::vector<Layer> layers_;
  RmsNorm final_norm_;
  Linear head_;
};

}  // namespace perpend
