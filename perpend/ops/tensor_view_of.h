#pragma once

#include <torch/types.h>

#include "perpend/core/tensor_view.h"

namespace perpend {

// The memory of a torch tensor as kernels see it; borrowed, valid while the tensor lives.
// Throws Unsupported for a dtype, device or rank that kernels do not know.
TensorView view_of(const torch::Tensor& tensor);

torch::ScalarType scalar_type_of(DType dtype);
torch::Device torch_device(Device device);

}  // namespace perpend
