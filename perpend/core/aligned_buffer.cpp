#include "perpend/core/aligned_buffer.h"

#include <new>

#include "perpend/core/error.h"

namespace perpend {

AlignedBuffer::AlignedBuffer(std::size_t num_bytes) : size_(num_bytes) {
  if (num_bytes == 0) return;
  void* data = ::operator new (num_bytes, std::align_val_t{kAlignment}, std::nothrow);
  if (data == nullptr) throw OutOfMemory(concat("memory: ", num_bytes, " bytes are not available"));
  data_.reset(static_cast<std::byte*>(data));
}

void AlignedBuffer::Free::operator()(std::byte* data) const {
  ::operator delete (data, std::align_val_t{kAlignment});
}

}  // namespace perpend
