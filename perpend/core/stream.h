#pragma once

#include <cstddef>

#include "perpend/core/thread_pool.h"

namespace perpend {

// A GPU's memory in the order of a stream: what is released may be given at once to what is
// launched behind. Called with the GPU as the current device.
struct StreamAllocator {
  void* (*allocate)(std::size_t num_bytes, void* cuda_stream);  // aligned to 256 bytes; throws
  void (*release)(void* memory, void* cuda_stream);             // throws nothing
};

// Where a kernel call runs: the host threads on a CPU, a CUDA stream on a GPU. A value handed to
// every kernel; each device reads its own half.
struct Stream {
  ThreadPool* threads = nullptr;  // CPU; not owned
  void* cuda_stream = nullptr;    // cudaStream_t; not owned
  // CUDA: what gives kernels their working memory; not owned. Null: a pool that keeps what it has.
  const StreamAllocator* allocator = nullptr;
};

}  // namespace perpend
