#include "perpend/nn/cross_entropy.h"

#include <algorithm>

#include <ATen/ops/empty_like.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/autograd.h>

#include "perpend/core/error.h"

namespace perpend {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

torch::ScalarType wide_type(const torch::Tensor& x) {
  return x.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
}

// One pass over the rows: the loss and, where wanted, its gradients.
class ChunkedCrossEntropy {
 public:
  ChunkedCrossEntropy(const torch::Tensor& x, const torch::Tensor& head, bool wants_dx,
                      bool wants_dhead)
      : x_(x), head_(head), loss(at::zeros({}, x.options().dtype(wide_type(x)))) {
    if (wants_dx) dx = at::empty_like(x);
    if (wants_dhead) dhead = at::zeros_like(head, head.options().dtype(wide_type(x)));
  }

  void add(std::int64_t first, std::int64_t count, const torch::Tensor& targets,
           const torch::Tensor& weights) {
    const torch::Tensor x = x_.narrow(0, first, count);
    const torch::Tensor target = targets.narrow(0, first, count).unsqueeze(1);
    const torch::Tensor weight = weights.narrow(0, first, count).unsqueeze(1).to(loss);
    torch::Tensor logits = at::linear(x, head_).to(loss.scalar_type());
    const torch::Tensor lse = at::logsumexp(logits, 1, /*keepdim=*/true);
    loss.add_(((lse - logits.gather(1, target)) * weight).sum());
    if (!dx.defined() && !dhead.defined()) return;
    const torch::Tensor dlogits =
        logits.sub_(lse).exp_().mul_(weight).scatter_add_(1, target, -weight).to(x.scalar_type());
    if (dx.defined()) dx.narrow(0, first, count).copy_(at::mm(dlogits, head_));
    if (dhead.defined()) dhead.add_(at::mm(dlogits.t(), x));
  }

 private:
  const torch::Tensor& x_;
  const torch::Tensor& head_;

 public:
  torch::Tensor loss;
  torch::Tensor dx;
  torch::Tensor dhead;
};

class CrossEntropyFunction : public torch::autograd::Function<CrossEntropyFunction> {
 public:
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& x,
                               const torch::Tensor& head, const torch::Tensor& targets,
                               const torch::Tensor& weights, std::int64_t chunk_rows, bool wants_dx,
                               bool wants_dhead) {
    ChunkedCrossEntropy pass(x, head, wants_dx, wants_dhead);
    for (std::int64_t first = 0; first < x.size(0); first += chunk_rows) {
      pass.add(first, std::min(chunk_rows, x.size(0) - first), targets, weights);
    }
    if (wants_dhead) pass.dhead = pass.dhead.to(head.scalar_type());
    context->save_for_backward({pass.dx, pass.dhead});
    return pass.loss;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grad_outputs) {
    const variable_list saved = context->get_saved_variables();
    variable_list grads(7);
    for (std::size_t i = 0; i < 2; ++i) {
      if (saved[i].defined()) grads[i] = saved[i] * grad_outputs[0].to(saved[i].scalar_type());
    }
    return grads;
  }
};

}  // namespace

torch::Tensor cross_entropy_sum(const torch::Tensor& x, const torch::Tensor& head,
                                const torch::Tensor& targets, const torch::Tensor& weights,
                                std::int64_t chunk_rows) {
  check(chunk_rows > 0, "cross entropy: chunks must have at least one row");
  check_eq(targets.size(0), x.size(0), "cross entropy: targets and rows differ in number");
  check_eq(weights.size(0), x.size(0), "cross entropy: weights and rows differ in number");
  const bool recorded = at::GradMode::is_enabled();
  return CrossEntropyFunction::apply(x, head, targets, weights, chunk_rows,
                                     recorded && x.requires_grad(),
                                     recorded && head.requires_grad());
}

}  // namespace perpend
