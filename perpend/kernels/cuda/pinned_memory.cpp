#include "perpend/kernels/cuda/pinned_memory.h"

#include "perpend/kernels/cuda/cuda_check.h"

namespace perpend {
namespace {

constexpr const char* kWhat = "pinned memory";

}  // namespace

PinnedMemory::PinnedMemory(std::size_t num_bytes) {
  void* data = nullptr;
  cuda_check(cudaHostAlloc(&data, num_bytes, cudaHostAllocDefault), kWhat);
  data_.reset(static_cast<std::byte*>(data));
  cudaEvent_t event = nullptr;
  cuda_check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), kWhat);
  used_.reset(event);
}

void PinnedMemory::FreeMemory::operator()(std::byte* data) const { (void)cudaFreeHost(data); }
void PinnedMemory::DestroyEvent::operator()(cudaEvent_t event) const {
  (void)cudaEventDestroy(event);
}

void PinnedMemory::use_until_now(cudaStream_t stream) const {
  cuda_check(cudaEventRecord(used_.get(), stream), kWhat);
}

void PinnedMemory::wait() const { cuda_check(cudaEventSynchronize(used_.get()), kWhat); }

}  // namespace perpend
