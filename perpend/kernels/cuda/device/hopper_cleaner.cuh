#pragma once

#include "perpend/kernels/cuda/device/dead_rows.cuh"
#include "perpend/kernels/cuda/device/hopper_kernel.cuh"

namespace perpend::device {

// The warp between the copies of a team's values and who computes with them, in a ragged batch.
template <class Kernel>
__device__ __forceinline__ void clean_values(const HopperForwardParams& params,
                                             const HopperShared<Kernel>& shared) {
  RingPlace<Kernel::kStages> values;
  // Behind all lanes: one left behind might wait for a phase long over.
  const auto arrive = [](std::uint32_t barrier) {
    arrive_as_warp(barrier, static_cast<int>(threadIdx.x));
  };
  for (RingPlace<Kernel::kItemRing> place;; place.advance()) {
    barrier_wait(shared.item_full(place.stage), place.parity);
    // Stays in shared memory, since these warps have few registers.
    const RingItem& item = shared.control->items[place.stage];
    if (item.is_end()) return;
#pragma unroll 1
    for (int i = 0; i < item.num_steps(); ++i) {
      barrier_wait(shared.v_full(values.stage), values.parity);
      // A step that the end cuts has a bitmap.
      if (i < item.num_partial) {
        zero_dead_rows<typename Kernel::Layout, Kernel::kKeys>(
            shared.values(values.stage), params.common.lists,
            params.common.lists.steps[item.list_begin + i],
            params.common.lists.items[shared.control->indices[place.stage]].kv_len);
      }
      arrive(shared.v_clean(values.stage));
      values.advance();
    }
    arrive(shared.item_empty(place.stage));
  }
}

}  // namespace perpend::device
