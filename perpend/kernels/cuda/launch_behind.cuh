#pragma once

#include <cstddef>
#include <type_traits>

#include "perpend/kernels/cuda/cuda_check.h"
#include "perpend/kernels/cuda/launch.h"

namespace perpend {

struct LaunchShape {
  dim3 grid;
  dim3 threads;
  std::size_t shared_bytes = 0;
};

// Launches a kernel that waits itself for the launch before it (device/launch_order.cuh): it may be
// made ready, and do what needs nothing of that one, while that one still runs.
template <class... Params>
void launch_behind(const Behind& behind, void (*kernel)(Params...), const LaunchShape& shape,
                   const std::type_identity_t<Params>&... params) {
  cudaLaunchAttribute overlaps{};
  overlaps.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlaps.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.threads;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = behind.stream;
  config.attrs = &overlaps;
  config.numAttrs = behind.overlaps ? 1 : 0;
  cuda_check(cudaLaunchKernelEx(&config, kernel, params...), behind.operation);
}

}  // namespace perpend
