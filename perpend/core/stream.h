#pragma once

#include "perpend/core/thread_pool.h"

namespace perpend {

// Where a kernel call runs: the host threads on a CPU, a CUDA stream on a GPU. A value handed to
// every kernel; each device reads its own half.
struct Stream {
  ThreadPool* threads = nullptr;  // CPU; not owned
  void* cuda_stream = nullptr;    // cudaStream_t; not owned
};

}  // namespace perpend
