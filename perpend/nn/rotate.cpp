#include "perpend/nn/rotate.h"

#include <utility>

#include <ATen/ops/empty.h>
#include <torch/autograd.h>

#include "perpend/core/error.h"

namespace perpend {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The two values of each pair: [rows, heads, pairs] each.
std::pair<torch::Tensor, torch::Tensor> pairs_of(const torch::Tensor& x, std::int64_t pairs,
                                                 RotaryLayout layout) {
  if (layout == RotaryLayout::kHalfSplit) return {x.narrow(2, 0, pairs), x.narrow(2, pairs, pairs)};
  return {x.slice(2, 0, 2 * pairs, 2), x.slice(2, 1, 2 * pairs, 2)};
}

torch::Tensor turned(const torch::Tensor& x, const torch::Tensor& cos, const torch::Tensor& sin,
                     RotaryLayout layout) {
  const std::int64_t pairs = cos.size(1);
  torch::Tensor out = at::empty(x.sizes(), x.options());
  const auto [a, b] = pairs_of(x, pairs, layout);
  const auto [out_a, out_b] = pairs_of(out, pairs, layout);
  const torch::Tensor c = cos.unsqueeze(1);
  const torch::Tensor s = sin.unsqueeze(1);
  out_a.copy_((a * c).sub_(b * s));
  out_b.copy_((b * c).add_(a * s));
  const std::int64_t kept = x.size(2) - 2 * pairs;
  if (kept > 0) out.narrow(2, 2 * pairs, kept).copy_(x.narrow(2, 2 * pairs, kept));
  return out;
}

class RotateFunction : public torch::autograd::Function<RotateFunction> {
 public:
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& x,
                               const torch::Tensor& cos, const torch::Tensor& sin,
                               std::int64_t layout) {
    context->save_for_backward({cos, sin});
    context->saved_data["layout"] = layout;
    return turned(x, cos, sin, static_cast<RotaryLayout>(layout));
  }

  static variable_list backward(AutogradContext* context, const variable_list& grad_outputs) {
    const variable_list saved = context->get_saved_variables();
    const auto layout = static_cast<RotaryLayout>(context->saved_data["layout"].toInt());
    return {turned(grad_outputs[0], saved[0], -saved[1], layout), {}, {}, {}};
  }
};

}  // namespace

torch::Tensor rotate(const torch::Tensor& x, const torch::Tensor& cos, const torch::Tensor& sin,
                     RotaryLayout layout) {
  check_eq(cos.size(0), x.size(0), "rotary: angles and rows differ in number");
  return RotateFunction::apply(x, cos, sin, static_cast<std::int64_t>(layout));
}

}  // namespace perpend
