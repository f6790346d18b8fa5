#pragma once

#include "perpend/kernels/cuda/device/hopper_cleaner.cuh"
#include "perpend/kernels/cuda/device/hopper_computer.cuh"
#include "perpend/kernels/cuda/device/hopper_copier.cuh"

// The forward kernel for Hopper: persistent CTAs that take work items, longest first, and walk
// their lists. In each CTA a warpgroup copies and others compute, two to an item, 64 rows each.
// There are two forms. Wide accumulators leave room for one item at a time: a warp each copies K
// and Q, V, and the items, and the two warpgroups take turns: while one has products in flight the
// other does softmax, with the loop of FlashAttention-3, arXiv:2407.08608. Of narrow ones there is
// room for two items, each with half of the shared memory and a warp that copies all of its
// operands; the four warpgroups hide each other's waits without any order.

namespace perpend::device {

template <class Kernel>
__device__ __forceinline__ void copy(const HopperForwardParams& params, char* memory) {
  const int warp = __shfl_sync(0xffffffffU, static_cast<int>(threadIdx.x) / 32, 0);
  if constexpr (Kernel::kTeams == 2) {
    if (warp < 2) {
      const HopperShared<Kernel> shared(memory, warp);
      Copier<Kernel>(params, shared).copy_all(warp);
    } else if (params.common.kv_is_ragged) {
      clean_values<Kernel>(params, HopperShared<Kernel>(memory, warp - 2));
    }
  } else {
    const HopperShared<Kernel> shared(memory, 0);
    if (warp == 0) Copier<Kernel>(params, shared).copy_keys();
    if (warp == 1 && threadIdx.x % 32 == 0) {
      fetch_items(params, shared);
    }
    if (warp == 2) Copier<Kernel>(params, shared).copy_values();
    if (warp == 3 && params.common.kv_is_ragged) clean_values<Kernel>(params, shared);
  }
}

template <class Kernel>
__global__ void __launch_bounds__(Kernel::kThreads, 1)
    hopper_forward(const __grid_constant__ HopperForwardParams params) {
  // NOLINTNEXTLINE(readability-redundant-declaration): an emulated GPU has declared it
  extern __shared__ __align__(1024) char memory[];
  if (threadIdx.x == 0) prefetch_maps(params.maps);
  for (int team = 0; team < Kernel::kTeams; ++team) {
    const HopperShared<Kernel> shared(memory, team);
    if (threadIdx.x == 0) init_barriers(shared, params.common.kv_is_ragged);
    if (params.common.lists.box_rows < Kernel::kKeys) zero_values(shared);
  }
  __syncthreads();
  if (threadIdx.x < kCopyThreads) {
    give_registers<Kernel::kCopyRegisters>();
    copy<Kernel>(params, memory);
  } else {
    take_registers<Kernel::kRegisters>();
    const int team =
        __shfl_sync(0xffffffffU, (static_cast<int>(threadIdx.x) - kCopyThreads) / kTileThreads, 0);
    const HopperShared<Kernel> shared(memory, team);
    Computer<Kernel>(params, shared, team).run();
  }
}

}  // namespace perpend::device
