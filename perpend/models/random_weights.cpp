#include "perpend/models/random_weights.h"

#include <algorithm>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>

#include "perpend/core/error.h"
#include "perpend/core/random.h"
#include "perpend/ops/tensor_view_of.h"

namespace perpend {
namespace {

constexpr double kDeviation = 0.02;

torch::Tensor normal(const std::vector<std::int64_t>& shape, std::uint64_t seed,
                     torch::Device device) {
  at::Generator generator = device.is_cpu() ? at::detail::createCPUGenerator()
                                            : at::globalContext()
                                                  .getAcceleratorHooksInterface(device.type())
                                                  .getNewGenerator(device.index());
  generator.set_current_seed(seed);
  return torch::empty(shape, torch::dtype(torch::kFloat32).device(device))
      .normal_(0.0, kDeviation, generator);
}

}  // namespace

Linear RandomWeights::linear(std::initializer_list<WeightRole> roles, WeightForm form,
                             const Context& context, int layer) const {
  const auto* type = std::get_if<torch::ScalarType>(&form);
  if (type == nullptr) throw Unsupported("random weights: made as tensors only, not packed");
  const torch::Device device = torch_device(context.device);
  std::vector<torch::Tensor> parts;
  for (const WeightRole role : roles) {
    const auto stream = static_cast<std::uint64_t>(layer) * 64 + static_cast<std::uint64_t>(role);
    parts.push_back(
        normal(weight_shape(config_, role), Random(seed_, stream).next_u64(), device).to(*type));
  }
  const torch::Tensor weight = parts.size() == 1 ? parts.front() : torch::cat(parts);
  const bool with_bias = std::any_of(roles.begin(), roles.end(), [&](WeightRole role) {
    return family_has_bias(config_.architecture, role);
  });
  return Linear(weight,
                with_bias ? torch::zeros({weight.size(0)}, weight.options()) : torch::Tensor());
}

torch::Tensor RandomWeights::vector(WeightRole role, const Context& context, int /*layer*/) const {
  return torch::ones(weight_shape(config_, role),
                     torch::dtype(torch::kFloat32).device(torch_device(context.device)));
}

}  // namespace perpend
