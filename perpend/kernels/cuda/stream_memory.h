#pragma once

#include <cstddef>

#include <cuda_runtime_api.h>

namespace perpend {

// Memory of the current device for what is launched on one stream in this object's scope, in the
// order of the stream and out of a pool that keeps what it has; in a captured graph, the graph's
// own. Aligned to 256 bytes.
class StreamMemory {
 public:
  StreamMemory(std::size_t num_bytes, cudaStream_t stream);
  ~StreamMemory();
  StreamMemory(StreamMemory&& other) noexcept;
  StreamMemory(const StreamMemory&) = delete;
  StreamMemory& operator=(const StreamMemory&) = delete;

  std::byte* data() const { return data_; }

 private:
  std::byte* data_ = nullptr;
  cudaStream_t stream_;
};

}  // namespace perpend
