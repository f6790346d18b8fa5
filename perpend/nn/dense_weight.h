#pragma once

#include <span>

#include <torch/types.h>

#include "perpend/kernels/quantized.h"
#include "perpend/nn/context.h"

namespace perpend {

// `sources`, which have equal in_features, as one tensor [sum of out_features, in_features] of
// `type` (f32, bf16 or f16) on the device of `context`: their rows one after another, dequantised
// exactly and rounded once to `type`. Throws InvalidArgument for other types and shapes that do not
// fit.
torch::Tensor make_dense_weight(std::span<const WeightSource> sources, torch::ScalarType type,
                                const Context& context);

}  // namespace perpend
