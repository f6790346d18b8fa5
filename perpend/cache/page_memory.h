#pragma once

#include <cstddef>

namespace perpend {

// Address space for pages: reserved at once, backed by memory only where it is touched, so that a
// long context costs nothing until it is used. Zeroed on first touch.
class PageMemory {
 public:
  PageMemory() = default;
  // Throws OutOfMemory when the address space can not be had.
  explicit PageMemory(std::size_t num_bytes);
  ~PageMemory();
  PageMemory(PageMemory&& other) noexcept;
  PageMemory& operator=(PageMemory&& other) noexcept;

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace perpend
