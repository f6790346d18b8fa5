#include "perpend/nn/linear.h"

#include <algorithm>
#include <utility>

#include "perpend/ops/tensor_view_of.h"

namespace perpend {

Linear::Linear(std::span<const WeightSource> sources, std::vector<float> bias, LinearMode mode,
               const Context& context)
    : bias_(std::move(bias)) {
  const auto pack = require(context.kernels->quantized.pack, "linear", *context.kernels);
  weight_ = pack(sources, mode, context.stream);
  if (!bias_.empty()) {
    check_eq(static_cast<std::int64_t>(bias_.size()), weight_.out_features,
             "linear: bias and out_features differ");
  }
}

torch::Tensor Linear::forward(const torch::Tensor& x, Context& context) const {
  torch::Tensor out = context.workspace->take({x.size(0), out_features()});
  run(x, out, false, context);
  return out;
}

torch::Tensor Linear::forward_part(const torch::Tensor& x, Range outputs, Context& context) const {
  // Kernels begin and end with whole panels.
  const Range panels{floor_div(outputs.begin, PackedWeight::kPanel) * PackedWeight::kPanel,
                     std::min(round_up(outputs.end, PackedWeight::kPanel), out_features())};
  const torch::Tensor out = context.workspace->take({x.size(0), panels.size()});
  run(x, out, false, context, panels);
  return out.narrow(1, outputs.begin - panels.begin, outputs.size());
}

void Linear::add_to(const torch::Tensor& sum, const torch::Tensor& x, Context& context) const {
  run(x, sum, true, context);
}

void Linear::run(const torch::Tensor& x, const torch::Tensor& out, bool accumulate,
                 Context& context, Range outputs) const {
  LinearArgs args;
  args.x = view_of(x);
  args.weight = &weight_;
  args.bias = bias_.empty() ? nullptr : bias_.data();
  args.out = view_of(out);
  args.accumulate = accumulate;
  args.scratch = &context.linear_scratch;
  args.outputs = outputs;
  context.kernels->quantized.linear(args, context.stream);
}

torch::Tensor Linear::rows(std::span<const std::int32_t> ids, Context& context) const {
  torch::Tensor out =
      context.workspace->take({static_cast<std::int64_t>(ids.size()), in_features()});
  context.kernels->quantized.gather_rows(weight_, ids, view_of(out), context.stream);
  return out;
}

}  // namespace perpend
