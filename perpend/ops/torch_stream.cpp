#include "perpend/ops/torch_stream.h"

#include <c10/core/Allocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace perpend {
namespace {

// LibTorch's own memory, so that it may give back what it keeps unused.
constexpr StreamAllocator kTorchAllocator = {
    .allocate =
        [](std::size_t num_bytes, void* /*cuda_stream*/) {
          return c10::GetAllocator(c10::DeviceType::CUDA)->raw_allocate(num_bytes);
        },
    .release =
        [](void* memory, void* /*cuda_stream*/) {
          c10::GetAllocator(c10::DeviceType::CUDA)->raw_deallocate(memory);
        }};

}  // namespace

Stream torch_stream_of(const torch::Tensor& tensor) {
  if (!tensor.is_cuda()) return {};
  const c10::impl::VirtualGuardImpl devices(tensor.device().type());
  return {.cuda_stream = devices.getStream(tensor.device()).native_handle(),
          .allocator = &kTorchAllocator};
}

}  // namespace perpend
