#pragma once

#include <string_view>

#include <cuda_runtime_api.h>

#include "perpend/core/device.h"
#include "perpend/core/stream.h"

namespace perpend {

// Where a kernel goes that waits itself for the launch before it (launch_behind.cuh).
struct Behind {
  cudaStream_t stream;
  bool overlaps;  // whether the GPU can make a launch ready while the one before runs
  std::string_view operation;
};

// Makes the device of a call the current one and checks what was launched. The device that was
// current before comes back at the end of the scope.
class Launch {
 public:
  // Throws InvalidArgument unless `device` is a CUDA device, DeviceError if there is none.
  Launch(std::string_view operation, Device device, Stream stream);
  ~Launch();
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;

  cudaStream_t stream() const { return stream_; }
  const StreamAllocator* allocator() const { return allocator_; }
  Behind behind() const;
  // To be called after the launch: throws DeviceError if it was refused.
  void check_launched() const;

 private:
  std::string_view operation_;
  cudaStream_t stream_;
  const StreamAllocator* allocator_;
  int device_;
  int device_before_ = 0;
};

}  // namespace perpend
