#pragma once

#include "perpend/kernels/cuda/device/shuffle.cuh"

// Reductions over the threads of a CTA in a fixed order, so that two runs give the same bits.

namespace perpend::device {

constexpr int kWarp = 32;

// join(a, b) over all threads, known to all of them afterwards. `shared` holds one T a warp; the
// CTA is a whole number of warps. `nothing` is the neutral element.
template <class T, class Join>
__device__ T block_reduce(T value, T nothing, T* shared, Join join) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  for (int step = kWarp / 2; step > 0; step /= 2) value = join(value, shuffle_down(value, step));
  // The memory may still be read as the result of the reduction before.
  __syncthreads();
  if (lane == 0) shared[warp] = value;
  __syncthreads();
  const int num_warps = static_cast<int>(blockDim.x) / kWarp;
  if (warp == 0) {
    value = lane < num_warps ? shared[lane] : nothing;
    for (int step = kWarp / 2; step > 0; step /= 2) value = join(value, shuffle_down(value, step));
    if (lane == 0) shared[0] = value;
  }
  __syncthreads();
  return shared[0];
}

}  // namespace perpend::device
