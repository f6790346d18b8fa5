#pragma once

#include <optional>

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/tensor.h>

#include "perpend/core/stream.h"

namespace perpend::python {

// Makes the GPU of a tensor the current one for a scope; does nothing for tensors of the CPU.
class DeviceScope {
 public:
  // Throws Unsupported when LibTorch has no CUDA.
  explicit DeviceScope(const torch::stable::Tensor& tensor);

  // The current stream of that GPU, with LibTorch's memory; nothing on the CPU.
  Stream stream() const { return stream_; }

 private:
  std::optional<torch::stable::accelerator::DeviceGuard> guard_;
  Stream stream_;
};

}  // namespace perpend::python
