#include "perpend/python/device_scope.h"

#include <dlfcn.h>

#include "perpend/core/error.h"

namespace perpend::python {
namespace {

// A function of the library that a torch with CUDA has loaded: one without would not let us link to
// it.
template <class Function>
Function from_torch_cuda(const char* name) {
  void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
  void* symbol = library == nullptr ? nullptr : dlsym(library, name);
  if (symbol == nullptr) {
    throw Unsupported(concat("attention: this torch has no ", name, "; run on the CPU"));
  }
  return reinterpret_cast<Function>(symbol);
}

struct TorchCuda {
  AOTITorchError (*current_stream)(std::int32_t device, void** stream);
  AOTITorchError (*allocate)(std::uint64_t num_bytes, void** memory);
  AOTITorchError (*release)(void* memory);
};

const TorchCuda& torch_cuda() {
  static const TorchCuda functions{
      from_torch_cuda<decltype(TorchCuda::current_stream)>("aoti_torch_get_current_cuda_stream"),
      from_torch_cuda<decltype(TorchCuda::allocate)>("aoti_torch_cuda_caching_allocator_raw_alloc"),
      from_torch_cuda<decltype(TorchCuda::release)>(
          "aoti_torch_cuda_caching_allocator_raw_delete")};
  return functions;
}

// LibTorch's own memory, so that it may give back what it keeps unused.
void* allocate(std::size_t num_bytes, void* /*cuda_stream*/) {
  void* memory = nullptr;
  if (torch_cuda().allocate(num_bytes, &memory) == AOTI_TORCH_SUCCESS) return memory;
  throw OutOfMemory(concat("attention: torch has no ", num_bytes, " bytes left on the GPU"));
}

void release(void* memory, void* /*cuda_stream*/) { (void)torch_cuda().release(memory); }

constexpr StreamAllocator kTorchAllocator = {allocate, release};

}  // namespace

DeviceScope::DeviceScope(const torch::stable::Tensor& tensor) {
  if (!tensor.is_cuda()) return;
  const std::int32_t device = tensor.get_device();
  guard_.emplace(device);
  stream_.allocator = &kTorchAllocator;
  TORCH_ERROR_CODE_CHECK(torch_cuda().current_stream(device, &stream_.cuda_stream));
}

}  // namespace perpend::python
