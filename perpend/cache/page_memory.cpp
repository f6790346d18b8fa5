#include "perpend/cache/page_memory.h"

#include <utility>

#include <sys/mman.h>

#include "perpend/core/error.h"
#include "perpend/kernels/table.h"

namespace perpend {
namespace {

void* reserve_on_host(std::size_t num_bytes) {
  void* data = mmap(nullptr, num_bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    throw OutOfMemory(concat("KV store: ", num_bytes, " bytes of address space are not available"));
  }
  return data;
}

void* allocate_on_device(std::size_t num_bytes, Device device) {
  const KernelTable& table = kernels_for(device);
  void* data = require(table.memory.allocate, "KV store", table)(num_bytes, device);
  table.memory.clear(data, num_bytes);
  return data;
}

}  // namespace

PageMemory::PageMemory(std::size_t num_bytes, Device device) : size_(num_bytes), device_(device) {
  if (num_bytes == 0) return;
  data_ = static_cast<std::byte*>(device.type == DeviceType::kCpu
                                      ? reserve_on_host(num_bytes)
                                      : allocate_on_device(num_bytes, device));
}

PageMemory::~PageMemory() {
  if (data_ == nullptr) return;
  if (device_.type == DeviceType::kCpu) {
    munmap(data_, size_);
  } else {
    kernels_for(device_).memory.release(data_);
  }
}

PageMemory::PageMemory(PageMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      device_(other.device_) {}

PageMemory& PageMemory::operator=(PageMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(device_, other.device_);
  return *this;
}

}  // namespace perpend
