#include "perpend/kernels/cuda/pinned_memory.h"

#include "perpend/kernels/cuda/cuda_check.h"

namespace perpend {

PinnedMemory::PinnedMemory(std::size_t num_bytes) {
  void* data = nullptr;
  cuda_check(cudaHostAlloc(&data, num_bytes, cudaHostAllocDefault), "pinned memory");
  data_.reset(static_cast<std::byte*>(data));
}

void PinnedMemory::FreeMemory::operator()(std::byte* data) const { (void)cudaFreeHost(data); }

}  // namespace perpend
