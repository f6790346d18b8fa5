#pragma once

#include <cstdint>

#include "perpend/models/weights.h"

namespace perpend {

// Weights to train from: matrices normal with a standard deviation of 0.02 as Transformers begins
// them (initializer_range), norms one, biases (as family_has_bias() says) zero. The same for a seed
// on one kind of device, where they are drawn.
class RandomWeights final : public ModelWeights {
 public:
  RandomWeights(const ModelConfig& config, std::uint64_t seed) : config_(config), seed_(seed) {}

  // Throws Unsupported for packed forms.
  Linear linear(std::initializer_list<WeightRole> roles, WeightForm form, const Context& context,
                int layer) const override;
  torch::Tensor vector(WeightRole role, const Context& context, int layer) const override;

 private:
  const ModelConfig& config_;
  std::uint64_t seed_;
};

}  // namespace perpend
