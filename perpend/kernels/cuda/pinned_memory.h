#pragma once

#include <cstddef>
#include <memory>

#include "perpend/kernels/cuda/event.h"

namespace perpend {

// Memory of the host that asynchronous copies to the current device can be made from, freed with
// its owner.
class PinnedMemory {
 public:
  explicit PinnedMemory(std::size_t num_bytes);

  std::byte* data() const { return data_.get(); }
  // What was put on `stream` so far uses this memory.
  void use_until_now(cudaStream_t stream) const { used_.record(stream); }
  // Until that is over.
  void wait() const { used_.wait(); }

 private:
  struct FreeMemory {
    void operator()(std::byte* data) const;
  };
  std::unique_ptr<std::byte, FreeMemory> data_;
  Event used_;
};

}  // namespace perpend
