#pragma once

#include "perpend/kernels/cuda/device/hopper_decode_computer.cuh"
#include "perpend/kernels/cuda/device/hopper_decode_copier.cuh"
#include "perpend/kernels/cuda/device/launch_order.cuh"

// The forward kernel for Hopper where keys are paged or queries are few against many keys, which
// bytes bound, not products.
//
// Plan. An item is what the forward kernels take: up to 128 rows, (query, head) pairs of a group
// where its heads see the same, against a list of steps. Lists are cut
// (kernels/cuda/decode_image.h) into so many items that one sequence alone occupies the GPU; where
// they are cut depends on the sequence and the model alone. Rows of an uncut item are written as
// they are, those of others as f32 with their lse to a workspace, row by row and item by item, and
// a second kernel (split_sum.cuh) adds them up in the order of the list. All lists lie at fixed
// places that a captured launch reads when it runs, their lengths too (DecodeCounts).
//
// Kernel. 3.35 TB/s times some 0.7 us of latency are 2.3 MB in flight, 18 KB for each SM. One
// persistent CTA an SM has a ring of slots, each the keys or the values of one step: 6 of 32 KB at
// head_dim 128, all of them in flight but for the one that is computed with. A warp copies: it
// takes an item from the counter, reads page numbers a step ahead, and issues a box for each page
// and panel. Two warpgroups compute, 64 rows each: two products and softmax take some 2,200 clocks
// a step of 64 KB, which comes from memory in 4,600, so they are in no hurry: no step overlaps
// another, most of the 64 rows of a decode step are empty, and a warpgroup without rows passes
// through the slots. Queries are few; threads store them to shared memory themselves, while the
// ring fills.
//
// Keys behind the end of a sequence are not copied box by box; what remains of the last box is
// masked by its bitmap, and its values are cleared, since a page may hold anything there.

namespace perpend::device {

template <class Kernel>
__global__ void __launch_bounds__(Kernel::kThreads, 1)
    hopper_decode(const __grid_constant__ HopperDecodeParams params) {
  // NOLINTNEXTLINE(readability-redundant-declaration): an emulated GPU has declared it
  extern __shared__ __align__(1024) char memory[];
  const DecodeShared<Kernel> shared(memory);
  let_next_launch_start();
  if (threadIdx.x == 0) {
    prefetch_map(&params.maps.k_step);
    prefetch_map(&params.maps.v_step);
    init_barriers(shared);
  }
  wait_for_launch_before();
  __syncthreads();
  if (threadIdx.x >= kTileThreads) {
    give_registers<Kernel::kCopyRegisters>();
    if (threadIdx.x < kTileThreads + 32) DecodeCopier<Kernel>(params, shared).run();
  } else {
    take_registers<Kernel::kRegisters>();
    DecodeComputer<Kernel>(params, shared).run();
  }
}

}  // namespace perpend::device
