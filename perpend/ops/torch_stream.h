#pragma once

#include <torch/types.h>

#include "perpend/core/stream.h"

namespace perpend {

// The current stream of a GPU tensor's device, with LibTorch's memory; nothing for a tensor of the
// CPU. Goes through what LibTorch has registered for CUDA and so without linking to it.
Stream torch_stream_of(const torch::Tensor& tensor);

}  // namespace perpend
