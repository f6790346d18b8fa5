#include "perpend/nn/rms_norm.h"

#include "perpend/nn/self_attention.h"
#include "perpend/ops/tensor_view_of.h"

namespace perpend {

torch::Tensor RmsNorm::forward(const torch::Tensor& x, Context& context,
                               const KeptRows* kept) const {
  torch::Tensor out = context.workspace->take({x.size(0), x.size(1)}, context.type);
  RmsNormArgs args;
  args.x = view_of(x);
  args.weight = view_of(weight_);
  args.out = view_of(out);
  args.epsilon = epsilon_;
  if (kept != nullptr) {
    args.kept = view_of(kept->inputs);
    args.places = view_of(kept->places);
  }
  require(context.kernels->fused.rms_norm, "rms_norm", *context.kernels)(args, context.stream);
  return out;
}

}  // namespace perpend
