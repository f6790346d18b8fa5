#pragma once

#include <cstddef>

#include "perpend/core/device.h"

namespace perpend {

// Memory of a device for pages, of zeros at first: what is masked is multiplied too, and must be
// finite. On a CPU address space that is backed by memory only where it is touched, so that a long
// context costs nothing until it is used; on a GPU all of it at once.
class PageMemory {
 public:
  PageMemory() = default;
  // Throws OutOfMemory when it can not be had, Unsupported and DeviceError for a GPU that is not
  // there.
  explicit PageMemory(std::size_t num_bytes, Device device = {});
  ~PageMemory();
  PageMemory(PageMemory&& other) noexcept;
  PageMemory& operator=(PageMemory&& other) noexcept;

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  Device device() const { return device_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  Device device_;
};

}  // namespace perpend
