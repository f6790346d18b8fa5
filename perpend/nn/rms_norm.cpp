#include "perpend/nn/rms_norm.h"

#include "perpend/ops/tensor_view_of.h"

namespace perpend {

torch::Tensor RmsNorm::forward(const torch::Tensor& x, Context& context) const {
  torch::Tensor out = context.workspace->take({x.size(0), x.size(1)}, context.type);
  RmsNormArgs args;
  args.x = view_of(x);
  args.weight = view_of(weight_);
  args.out = view_of(out);
  args.epsilon = epsilon_;
  require(context.kernels->fused.rms_norm, "rms_norm", *context.kernels)(args, context.stream);
  return out;
}

}  // namespace perpend
