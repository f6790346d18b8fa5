#include "perpend/nn/gated_mlp.h"

#include <utility>

#include "perpend/ops/tensor_view_of.h"

namespace perpend {

GatedMlp::GatedMlp(Linear gate_up, Linear down, Activation activation)
    : gate_up_(std::move(gate_up)), down_(std::move(down)), activation_(activation) {
  check_eq(gate_up_.out_features(), 2 * down_.in_features(),
           "gated MLP: outputs of gate and up and twice the inputs of down differ");
}

torch::Tensor GatedMlp::add_to(const torch::Tensor& residual, const torch::Tensor& x,
                               Context& context) const {
  const torch::Tensor gate_up = gate_up_.forward(x, context);
  const torch::Tensor hidden =
      context.workspace->take({x.size(0), down_.in_features()}, gate_up.scalar_type());
  GatedMlpArgs args;
  args.gate_up = view_of(gate_up);
  args.out = view_of(hidden);
  args.activation = activation_;
  require(context.kernels->fused.gated_mlp, "gated_mlp", *context.kernels)(args, context.stream);
  return down_.add_to(residual, hidden, context);
}

}  // namespace perpend
