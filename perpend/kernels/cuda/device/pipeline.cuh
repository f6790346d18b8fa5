#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/ptx.cuh"
#include "perpend/kernels/cuda/device/racecheck.h"

namespace perpend::device {

// Where a thread is in a ring of kStages buffers, each with a barrier for full and one for empty.
// The one who empties waits for full with `parity`, the one who fills for empty with the other, so
// that the first round of filling waits for nothing.
template <int kStages>
struct RingPlace {
  int stage = 0;
  std::uint32_t parity = 0;

  __device__ __forceinline__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// Arrivals that say that a warp is done: one, behind all of its lanes.
constexpr int kWarpArrivals = kForRacecheck ? 32 : 1;
__device__ __forceinline__ void arrive_as_warp(std::uint32_t barrier, int thread) {
  __syncwarp();
  if (kForRacecheck || thread % 32 == 0) barrier_arrive(barrier);
}
// The same of a warpgroup, behind a product, which is over for all of its warps at once.
constexpr int kWarpgroupArrivals = kForRacecheck ? 128 : 1;
__device__ __forceinline__ void arrive_as_warpgroup(std::uint32_t barrier, int thread) {
  if (kForRacecheck || thread % 128 == 0) barrier_arrive(barrier);
}

}  // namespace perpend::device
