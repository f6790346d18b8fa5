#include "perpend/nn/cross_entropy.h"

#include <algorithm>

#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/autograd.h>

#include "perpend/core/error.h"
#include "perpend/kernels/table.h"
#include "perpend/ops/tensor_view_of.h"
#include "perpend/ops/torch_stream.h"

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
    const torch::Tensor target = targets.narrow(0, first, count);
    const torch::Tensor weight = weights.narrow(0, first, count);
    const torch::Tensor logits = at::linear(x, head_);
    const torch::Tensor dlogits =
        is_fused() ? fused_gradient(logits, target, weight) : gradient(logits, target, weight);
    if (dx.defined()) {
      torch::Tensor rows = dx.narrow(0, first, count);
      at::mm_out(rows, dlogits, head_);
    }
    if (dhead.defined()) add_to_dhead(dlogits, x);
  }

 private:
  bool is_fused() const {
    return x_.is_cuda() && cuda_kernels().training.cross_entropy != nullptr &&
           (x_.scalar_type() == torch::kBFloat16 || x_.scalar_type() == torch::kFloat16);
  }

  // In place of the logits.
  torch::Tensor fused_gradient(const torch::Tensor& logits, const torch::Tensor& target,
                               const torch::Tensor& weight) const {
    const torch::Tensor losses = at::empty(target.sizes(), loss.options());
    cuda_kernels().training.cross_entropy({.logits = view_of(logits),
                                           .targets = view_of(target),
                                           .weights = view_of(weight),
                                           .losses = view_of(losses)},
                                          torch_stream_of(logits));
    loss.add_(losses.sum());
    return logits;
  }

  // Undefined where no gradient is wanted.
  torch::Tensor gradient(const torch::Tensor& logits_of_type, const torch::Tensor& target,
                         const torch::Tensor& weight) const {
    const torch::Tensor index = target.unsqueeze(1);
    const torch::Tensor factor = weight.unsqueeze(1).to(loss);
    torch::Tensor logits = logits_of_type.to(loss.scalar_type());
    const torch::Tensor lse = at::logsumexp(logits, 1, /*keepdim=*/true);
    loss.add_(((lse - logits.gather(1, index)) * factor).sum());
    if (!dx.defined() && !dhead.defined()) return {};
    return logits.sub_(lse)
        .exp_()
        .mul_(factor)
        .scatter_add_(1, index, -factor)
        .to(x_.scalar_type());
  }

  // Summed in the type of dhead, also within the product where a GPU's library can.
  void add_to_dhead(const torch::Tensor& dlogits, const torch::Tensor& x) {
    const torch::Tensor columns = dlogits.t();
    if (x.is_cuda() && dhead.scalar_type() != x.scalar_type()) {
      at::addmm_out(dhead, dhead, columns, x, dhead.scalar_type());
    } else {
      dhead.add_(at::mm(columns, x));
    }
  }

  const torch::Tensor& x_;
  const torch::Tensor& head_;

 public:
  torch::Tensor loss;
  torch::Tensor dx;
  torch::Tensor dhead;
};

// Rows of a chunk: on a GPU enough for products of a good size, 128 MB of logits in 16 bits.
std::int64_t rows_of_chunk(const torch::Tensor& head) {
  constexpr std::int64_t kRows = 2048;
  constexpr std::int64_t kGpuLogits = std::int64_t{1} << 26;
  return head.is_cuda() ? std::max(kRows / 2, kGpuLogits / head.size(0)) : kRows;
}

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
  check(chunk_rows >= 0, "cross entropy: chunk_rows must not be negative");
  check_eq(targets.size(0), x.size(0), "cross entropy: targets and rows differ in number");
  check_eq(weights.size(0), x.size(0), "cross entropy: weights and rows differ in number");
  const bool recorded = at::GradMode::is_enabled();
  return CrossEntropyFunction::apply(
      x, head, targets, weights, chunk_rows == 0 ? rows_of_chunk(head) : chunk_rows,
      recorded && x.requires_grad(), recorded && head.requires_grad());
}

}  // namespace perpend
