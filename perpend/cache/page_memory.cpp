#include "perpend/cache/page_memory.h"

#include <utility>

#include <sys/mman.h>

#include "perpend/core/error.h"

namespace perpend {

PageMemory::PageMemory(std::size_t num_bytes) : size_(num_bytes) {
  if (num_bytes == 0) return;
  void* data = mmap(nullptr, num_bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    throw OutOfMemory(concat("KV store: ", num_bytes, " bytes of address space are not available"));
  }
  data_ = static_cast<std::byte*>(data);
}

PageMemory::~PageMemory() {
  if (data_ != nullptr) munmap(data_, size_);
}

PageMemory::PageMemory(PageMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

PageMemory& PageMemory::operator=(PageMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace perpend
