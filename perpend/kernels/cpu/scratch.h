#pragma once

#include <cstddef>

#include "perpend/core/aligned_buffer.h"

namespace perpend {

// Places of arrays in one buffer, each on a cache line of its own.
class ScratchLayout {
 public:
  template <class T>
  std::size_t add(std::size_t count) {
    const std::size_t offset = size_;
    constexpr std::size_t kLine = AlignedBuffer::kAlignment;
    size_ += (count * sizeof(T) + kLine - 1) / kLine * kLine;
    return offset;
  }
  std::size_t size() const { return size_; }

 private:
  std::size_t size_ = 0;
};

// Arrays by their places.
class ScratchView {
 public:
  explicit ScratchView(std::byte* base) : base_(base) {}
  template <class T>
  T* at(std::size_t offset) const {
    return reinterpret_cast<T*>(base_ + offset);
  }

 private:
  std::byte* base_;
};

// The buffer itself: the caller's, grown when too small, or one of its own.
class Scratch {
 public:
  Scratch(AlignedBuffer* given, std::size_t num_bytes) : buffer_(given != nullptr ? given : &own_) {
    if (buffer_->size() < num_bytes) *buffer_ = AlignedBuffer(num_bytes);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  ScratchView view(std::size_t offset = 0) { return ScratchView(buffer_->data() + offset); }

 private:
  AlignedBuffer own_;
  AlignedBuffer* buffer_;
};

}  // namespace perpend
