#pragma once

#include <optional>

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/tensor.h>

namespace perpend::python {

// Makes the GPU of a tensor the current one for a scope; does nothing for tensors of the CPU.
class DeviceScope {
 public:
  // Throws Unsupported when LibTorch can not tell the current stream.
  explicit DeviceScope(const torch::stable::Tensor& tensor);

  // cudaStream_t that is current for that GPU, null on the CPU.
  void* cuda_stream() const { return cuda_stream_; }

 private:
  std::optional<torch::stable::accelerator::DeviceGuard> guard_;
  void* cuda_stream_ = nullptr;
};

}  // namespace perpend::python
