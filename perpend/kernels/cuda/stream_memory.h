#pragma once

#include <cstddef>

#include <cuda_runtime_api.h>

#include "perpend/kernels/cuda/launch.h"

namespace perpend {

// Memory of the current device for what is launched in this object's scope, in the order of the
// launch's stream and from its allocator; without one, from a pool that keeps what it has or, in a
// captured graph, the graph's own. Aligned to 256 bytes.
class StreamMemory {
 public:
  StreamMemory(std::size_t num_bytes, const Launch& launch);
  ~StreamMemory();
  StreamMemory(StreamMemory&& other) noexcept;
  StreamMemory(const StreamMemory&) = delete;
  StreamMemory& operator=(const StreamMemory&) = delete;

  std::byte* data() const { return data_; }

 private:
  std::byte* data_ = nullptr;
  cudaStream_t stream_;
  const StreamAllocator* allocator_;
};

}  // namespace perpend
