#pragma once

#include <memory>
#include <vector>

#include "perpend/models/differentiable_model.h"
#include "perpend/models/language_model.h"
#include "perpend/models/layerwise_model.h"
#include "perpend/models/weights.h"
#include "perpend/nn/gated_mlp.h"
#include "perpend/nn/rms_norm.h"
#include "perpend/nn/self_attention.h"

namespace perpend {

// Decoder-only transformers of the Llama shape: Llama 2 and 3 (arXiv:2307.09288, arXiv:2407.21783),
// SmolLM2, Mistral without its window, Qwen2 and Qwen2.5 (biases on q, k, v).
class Llama final : public LanguageModel, public LayerwiseModel, public DifferentiableModel {
 public:
  // Takes all weights in that form, in the memory of the context's device. Throws as `weights`
  // does.
  Llama(ModelConfig config, const ModelWeights& weights, WeightForm form, Context& context);

  const ModelConfig& config() const override { return config_; }
  std::size_t num_bytes() const override;
  torch::Tensor forward(const ForwardInput& input, Context& context) const override;
  TurnedHeads heads(const ForwardInput& input, const HeadRowsOf& wanted,
                    Context& context) const override;
  bool is_capturable() const override { return true; }
  void prepare(const ForwardInput& input) const override;
  const LayerwiseModel* layerwise() const override { return this; }
  torch::Tensor embed(const ForwardPass& pass, Context& context) const override;
  void run_layer(int layer, const torch::Tensor& x, const ForwardPass& pass, const KeptRows& kept,
                 Context& context) const override;
  void visit_logits(const torch::Tensor& x, const ForwardPass& pass, LogitVisitor visit,
                    Context& context) const override;
  torch::Tensor run(const ForwardPass& pass, const LogitVisitor* visit,
                    Context& context) const override;

  // Every tensor of the model once, layer by layer. Throws Unsupported when matrices are packed.
  std::vector<ModelParameter> parameters() const;

  std::vector<NamedParameter> named_parameters() const override;
  std::vector<NamedLinear> layer_linears() override;
  torch::Tensor embedding_weight() const override { return embedding_.weight(); }
  torch::Tensor head_weight() const override { return head().weight(); }
  TrainOutput train_forward(const TrainInput& input) const override;
  // Adds the adapters of all matrices to them.
  void merge_adapters();

 private:
  struct Layer {
    RmsNorm attention_norm;
    SelfAttention attention;
    RmsNorm mlp_norm;
    GatedMlp mlp;
  };

  Layer read_layer(int index, const ModelWeights& weights, WeightForm form,
                   const Context& context) const;
  // The layers of a pass; of `input` what lies in memory of the host alone.
  torch::Tensor run_layers(const ForwardPass& pass, const ForwardInput& input,
                           Context& context) const;
  // The tensors that a recorded pass through a layer reads and that are trained.
  static std::vector<torch::Tensor> trained_leaves(const Layer& layer);
  TrainBatch make_train_batch(const TrainInput& input) const;
  torch::Tensor through_layer(int index, const torch::Tensor& x, const AttentionInput& input,
                              Context& context) const;
  torch::Tensor logits(const torch::Tensor& x, const ForwardPass& pass, const LogitVisitor* visit,
                       Context& context) const;
  // The keys and values of a layer alone.
  void make_keys(int index, const torch::Tensor& x, const ForwardPass& pass,
                 Context& context) const;
  // Rows of hidden states that passed the norm of a layer's attention.
  torch::Tensor normed_rows(const Layer& layer, const torch::Tensor& x, const torch::Tensor& rows,
                            Context& context) const;
  const Linear& head() const { return config_.tied_embeddings ? embedding_ : head_; }

  ModelConfig config_;
  std::shared_ptr<RotaryTables> rotary_;
  Linear embedding_;
  std::vector<Layer> layers_;
  RmsNorm final_norm_;
  Linear head_;
};

}  // namespace perpend
