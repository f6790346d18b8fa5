#pragma once

#include <memory>
#include <string>
#include <vector>

#include <torch/types.h>

#include "perpend/core/random.h"
#include "perpend/models/llama.h"
#include "perpend/models/random_weights.h"
#include "perpend/nn/runtime.h"
#include "perpend/train/memory_dataset.h"
#include "perpend/train/next_token_loss.h"
#include "perpend/train/trainer.h"

namespace perpend {

// A network that takes a millisecond, with weights large enough that every part of it matters.
class TinyModel {
 public:
  static constexpr int kVocabSize = 50;

  static ModelConfig shape() {
    ModelConfig config;
    config.architecture = "llama";
    config.vocab_size = kVocabSize;
    config.model_dim = 24;
    config.ffn_dim = 40;
    config.num_layers = 3;
    config.num_q_heads = 4;
    config.num_kv_heads = 2;
    config.head_dim = 8;
    config.context_length = 256;
    config.rotary.rotary_dim = 8;
    return config;
  }

  explicit TinyModel(const ModelConfig& config = shape(), std::uint64_t seed = 1,
                     torch::ScalarType type = torch::kFloat32)
      : llama(config, RandomWeights(config, seed), type, runtime.context()) {
    for (const auto& [parts, tensor] : llama.named_parameters()) {
      if (tensor.dim() == 2) tensor.mul_(10);
    }
  }

  std::vector<TrainedTensor> all_tensors() const {
    std::vector<TrainedTensor> tensors;
    for (const auto& [parts, tensor] : llama.named_parameters()) {
      tensors.push_back({parts.front().name, tensor});
    }
    return tensors;
  }

  std::vector<torch::Tensor> copies() const {
    std::vector<torch::Tensor> values;
    for (const auto& [parts, tensor] : llama.named_parameters()) {
      values.push_back(tensor.detach().clone());
    }
    return values;
  }

  Runtime runtime{2};
  Llama llama;
};

inline std::vector<std::int32_t> random_tokens(std::int64_t count, Random& random) {
  std::vector<std::int32_t> tokens;
  for (std::int64_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<std::int32_t>(random.next_below(TinyModel::kVocabSize)));
  }
  return tokens;
}

inline std::vector<TrainingSequence> random_sequences(const std::vector<std::int64_t>& lengths,
                                                      std::uint64_t seed) {
  Random random(seed);
  std::vector<TrainingSequence> sequences;
  for (const std::int64_t length : lengths) {
    TrainingSequence sequence;
    sequence.tokens = random_tokens(length, random);
    for (std::int64_t i = 0; i < length; ++i) {
      sequence.weights.push_back(static_cast<float>(random.next_below(3)) / 2);
    }
    sequences.push_back(sequence);
  }
  return sequences;
}

inline PackedBatch packed(const std::vector<TrainingSequence>& sequences) {
  std::vector<std::int64_t> numbers(sequences.size());
  return pack(sequences, numbers);
}

inline TrainInput input_of(const PackedBatch& batch, const Mask& mask = Mask::causal(),
                           int num_layers = TinyModel::shape().num_layers) {
  const auto tensor = [](const std::vector<std::int32_t>& values) {
    return torch::tensor(values, torch::kInt32);
  };
  return {.tokens = tensor(batch.tokens),
          .positions = tensor(batch.positions),
          .q_indptr = tensor(batch.q_indptr),
          .layer_masks = MaskBinder(std::vector<Mask>(num_layers, mask)).bind(batch),
          .captured_layers = {},
          .recompute = false};
}

inline std::vector<WeightedLoss> next_token() { return {{std::make_shared<NextTokenLoss>(), 1.0}}; }

inline double error_between(const torch::Tensor& found, const torch::Tensor& expected) {
  const torch::Tensor wide = expected.to(torch::kFloat64);
  return ((found.to(torch::kFloat64) - wide).norm() / wide.norm().clamp_min(1e-12)).item<double>();
}

}  // namespace perpend
