#include "perpend/kernels/cuda/stream_memory.h"

#include <cstdint>
#include <map>
#include <mutex>
#include <utility>

#include "perpend/kernels/cuda/cuda_check.h"

namespace perpend {
namespace {

constexpr const char* kWhat = "attention";

cudaMemPool_t make_pool(int device) {
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location = {cudaMemLocationTypeDevice, device};
  cudaMemPool_t pool = nullptr;
  cuda_check(cudaMemPoolCreate(&pool, &properties), kWhat);
  // The default gives memory back to the driver at every synchronisation.
  std::uint64_t kept = UINT64_MAX;
  cuda_check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &kept), kWhat);
  return pool;
}

// Of the current device.
cudaMemPool_t pool() {
  static std::mutex mutex;
  static std::map<int, cudaMemPool_t> pools;
  int device = 0;
  cuda_check(cudaGetDevice(&device), kWhat);
  const std::scoped_lock lock(mutex);
  cudaMemPool_t& found = pools[device];
  if (found == nullptr) found = make_pool(device);
  return found;
}

}  // namespace

StreamMemory::StreamMemory(std::size_t num_bytes, const Launch& launch)
    : stream_(launch.stream()), allocator_(launch.allocator()) {
  if (num_bytes == 0) return;
  void* data = nullptr;
  if (allocator_ != nullptr) {
    data = allocator_->allocate(num_bytes, stream_);
  } else {
    cuda_check(cudaMallocFromPoolAsync(&data, num_bytes, pool(), stream_), kWhat);
  }
  data_ = static_cast<std::byte*>(data);
}

StreamMemory::~StreamMemory() {
  if (data_ == nullptr) return;
  if (allocator_ != nullptr) {
    allocator_->release(data_, stream_);
  } else {
    (void)cudaFreeAsync(data_, stream_);
  }
}

StreamMemory::StreamMemory(StreamMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      stream_(other.stream_),
      allocator_(other.allocator_) {}

}  // namespace perpend
