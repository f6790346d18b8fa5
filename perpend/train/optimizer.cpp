#include "perpend/train/optimizer.h"

#include <set>
#include <utility>

#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/grad_mode.h>

#include "perpend/core/error.h"

namespace perpend {
namespace {

// Sums run in f32, but for models in f64, which tests use.
torch::ScalarType master_type(const torch::Tensor& tensor) {
  return tensor.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
}

std::vector<torch::Tensor> picked(const std::vector<torch::Tensor>& from,
                                  const std::vector<std::size_t>& members) {
  std::vector<torch::Tensor> list;
  for (const std::size_t i : members) list.push_back(from[i]);
  return list;
}

// At once: adapters are hundreds of tensors, whose copies take a GPU less than their launches.
void copy_all(const std::vector<torch::Tensor>& to, const std::vector<torch::Tensor>& from) {
  if (!to.empty()) at::_foreach_copy_(to, from);
}

}  // namespace

Optimizer::Optimizer(std::vector<TrainedTensor> tensors, const Options& options)
    : tensors_(std::move(tensors)), options_(options), gradients_(tensors_.size()) {
  check(!tensors_.empty(), "optimizer: there is nothing to train");
  const at::NoGradGuard no_grad;
  std::set<std::string> names;
  Group matrices;
  Group vectors;
  matrices.weight_decay = options.weight_decay;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    const auto& [name, tensor] = tensors_[i];
    check(names.insert(name).second, concat("optimizer: tensor ", name, " is given twice"));
    check(tensor.is_leaf() && tensor.is_floating_point(),
          concat("optimizer: tensor ", name, " is no floating-point leaf"));
    tensor.requires_grad_(true);
    weights_.push_back(tensor.detach().to(master_type(tensor)));
    exp_avg_.push_back(at::zeros_like(weights_.back()));
    exp_avg_sq_.push_back(at::zeros_like(weights_.back()));
    Group& group = tensor.dim() >= 2 ? matrices : vectors;
    group.members.push_back(i);
  }
  for (Group& group : {std::ref(matrices), std::ref(vectors)}) {
    if (!group.members.empty()) groups_.push_back(std::move(group));
  }
}

void Optimizer::accumulate() {
  const at::NoGradGuard no_grad;
  std::vector<torch::Tensor> wide;
  std::vector<torch::Tensor> narrow;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    torch::Tensor& fresh = tensors_[i].tensor.mutable_grad();
    if (!fresh.defined()) continue;
    if (gradients_[i].defined()) {
      gradients_[i].add_(fresh);
    } else if (fresh.scalar_type() == weights_[i].scalar_type()) {
      gradients_[i] = fresh;
    } else {
      gradients_[i] = at::empty_like(weights_[i]);
      wide.push_back(gradients_[i]);
      narrow.push_back(fresh);
    }
    fresh.reset();
  }
  copy_all(wide, narrow);
}

torch::Tensor Optimizer::clip(std::vector<torch::Tensor>& gradients) const {
  const torch::Tensor norm = at::linalg_vector_norm(at::stack(at::_foreach_norm(gradients, 2)), 2);
  if (options_.clip_norm > 0) {
    // As torch.nn.utils.clip_grad_norm_ has it.
    const torch::Tensor factor = at::clamp(options_.clip_norm / (norm + 1e-6), {}, 1.0);
    at::_foreach_mul_(gradients, factor);
  }
  return norm;
}

torch::Tensor Optimizer::step(double learning_rate) {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < gradients_.size(); ++i) {
    if (!gradients_[i].defined()) gradients_[i] = at::zeros_like(weights_[i]);
  }
  const torch::Tensor norm = clip(gradients_);
  ++num_steps_;
  const torch::Tensor count =
      at::full({}, static_cast<double>(num_steps_), norm.options().dtype(torch::kFloat32));
  for (const Group& group : groups_) {
    at::_fused_adamw_(picked(weights_, group.members), picked(gradients_, group.members),
                      picked(exp_avg_, group.members), picked(exp_avg_sq_, group.members), {},
                      std::vector(group.members.size(), count), learning_rate, options_.beta1,
                      options_.beta2, group.weight_decay, options_.epsilon, /*amsgrad=*/false,
                      /*maximize=*/false);
  }
  for (torch::Tensor& gradient : gradients_) gradient.reset();
  round_weights();
  return norm;
}

void Optimizer::round_weights() {
  std::vector<torch::Tensor> to;
  std::vector<torch::Tensor> from;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    const torch::Tensor& tensor = tensors_[i].tensor;
    if (tensor.is_alias_of(weights_[i])) continue;
    to.push_back(tensor.detach());
    from.push_back(weights_[i]);
  }
  copy_all(to, from);
}

std::vector<TrainedTensor> Optimizer::state() const {
  std::vector<TrainedTensor> state;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    const std::string& name = tensors_[i].name;
    state.push_back({name, weights_[i]});
    state.push_back({name + ".exp_avg", exp_avg_[i]});
    state.push_back({name + ".exp_avg_sq", exp_avg_sq_[i]});
  }
  return state;
}

void Optimizer::restore(std::int64_t num_steps) {
  const at::NoGradGuard no_grad;
  num_steps_ = num_steps;
  for (torch::Tensor& gradient : gradients_) gradient.reset();
  round_weights();
}

}  // namespace perpend
