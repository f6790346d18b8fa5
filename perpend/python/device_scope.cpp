#include "perpend/python/device_scope.h"

#include <dlfcn.h>

#include "perpend/core/error.h"

namespace perpend::python {
namespace {

using CurrentCudaStream = AOTITorchError (*)(std::int32_t device, void** stream);

// From the library that a torch with CUDA has loaded: one without would not let us link to it.
CurrentCudaStream current_cuda_stream() {
  static const auto function = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    void* symbol =
        library == nullptr ? nullptr : dlsym(library, "aoti_torch_get_current_cuda_stream");
    return reinterpret_cast<CurrentCudaStream>(symbol);
  }();
  if (function == nullptr) {
    throw Unsupported("attention: this torch has no CUDA streams; run on the CPU");
  }
  return function;
}

}  // namespace

DeviceScope::DeviceScope(const torch::stable::Tensor& tensor) {
  if (!tensor.is_cuda()) return;
  const std::int32_t device = tensor.get_device();
  guard_.emplace(device);
  TORCH_ERROR_CODE_CHECK(current_cuda_stream()(device, &cuda_stream_));
}

}  // namespace perpend::python
