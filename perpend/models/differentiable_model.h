#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <torch/types.h>

#include "perpend/mask/mask.h"
#include "perpend/models/model_config.h"
#include "perpend/nn/self_attention.h"

namespace perpend {

// One mask, or one for each sequence of a batch.
using BatchMasks = std::shared_ptr<const std::vector<Mask>>;

// A forward pass that autograd records: the rows of all sequences one after another.
struct TrainInput {
  torch::Tensor tokens;                 // [rows] i32 of the host
  torch::Tensor positions;              // [rows] i32 of the host, for the rotary embedding
  torch::Tensor q_indptr;               // [batch + 1] i32 of the host
  std::vector<BatchMasks> layer_masks;  // [num_layers]
  std::vector<int> captured_layers;     // whose turned q and k are wanted
  // Keeps the input of each layer alone and computes the rest once more in the backward pass.
  bool recompute = false;
};

struct TrainOutput {
  torch::Tensor hidden;  // [rows, model_dim] behind the final norm, in the type of the matrices
  std::map<int, RotatedHeads> captured;  // by layer
};

// A tensor of a model under its Hugging Face name, or several that lie one after another.
struct NamedParameter {
  struct Part {
    std::string name;  // "model.layers.0.self_attn.q_proj.weight"
    std::int64_t first_row = 0;
    std::int64_t num_rows = 0;
  };
  std::vector<Part> parts;
  torch::Tensor tensor;
};

// A matrix, or several that lie one after another, with the names of the parts without ".weight".
struct NamedLinear {
  std::vector<NamedParameter::Part> parts;
  Linear* linear = nullptr;
};

// A network whose weights are tensors, to be trained: the same layers that LanguageModel runs.
class DifferentiableModel {
 public:
  virtual ~DifferentiableModel() = default;

  virtual const ModelConfig& config() const = 0;
  // Every tensor of the network once.
  virtual std::vector<NamedParameter> named_parameters() const = 0;
  // The matrices of its layers, to be given adapters.
  virtual std::vector<NamedLinear> layer_linears() = 0;
  // [vocab_size, model_dim]: rows of tokens.
  virtual torch::Tensor embedding_weight() const = 0;
  // [vocab_size, model_dim]: logits are hidden head^T.
  virtual torch::Tensor head_weight() const = 0;
  // Throws InvalidArgument for token ids beyond the vocabulary, positions beyond the context and
  // what attention() refuses.
  virtual TrainOutput train_forward(const TrainInput& input) const = 0;
};

}  // namespace perpend
