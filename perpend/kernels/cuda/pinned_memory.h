#pragma once

#include <cstddef>
#include <memory>
#include <type_traits>

#include <cuda_runtime_api.h>

namespace perpend {

// Memory of the host that asynchronous copies to the current device can be made from, freed with
// its owner.
class PinnedMemory {
 public:
  explicit PinnedMemory(std::size_t num_bytes);

  std::byte* data() const { return data_.get(); }
  // What was put on `stream` so far uses this memory.
  void use_until_now(cudaStream_t stream) const;
  // Until that is over.
  void wait() const;

 private:
  struct FreeMemory {
    void operator()(std::byte* data) const;
  };
  struct DestroyEvent {
    void operator()(cudaEvent_t event) const;
  };
  std::unique_ptr<std::byte, FreeMemory> data_;
  std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, DestroyEvent> used_;
};

}  // namespace perpend
