#pragma once

#include "perpend/kernels/cuda/device/dead_rows.cuh"
#include "perpend/kernels/cuda/device/hopper_gradient_kernel.cuh"

namespace perpend::device {

// The warp between the copies of steps, and of a fused pass's items, and who computes with them, in
// a ragged batch. It takes them in the order in which they are computed with.
template <class Kernel>
__device__ __forceinline__ void clean_gradient_rows(const typename Kernel::Params& params,
                                                    const GradientShared<Kernel>& shared) {
  using Pass = typename Kernel::Pass;
  using Layout = typename Kernel::Layout;
  RingPlace<Kernel::kStages> inner;
  RingPlace<1> outer;
  // Behind all lanes: one left behind might wait for a phase long over.
  const auto arrive = [](std::uint32_t barrier) {
    arrive_as_warp(barrier, static_cast<int>(threadIdx.x));
  };
  const auto num_steps = [](const typename Pass::Item& item) {
    return item.num_partial + item.num_full;
  };
  for (RingPlace<kGradientItemRing> place;; place.advance()) {
    barrier_wait(shared.item_full(place.stage), place.parity);
    // Stays in shared memory, since these warps have few registers.
    const typename Pass::Item& item = shared.control->items[place.stage];
    if (Pass::is_end(item)) return;
    if constexpr (Kernel::kFused) {
      if (outer_needs_cleaning<Kernel>(params.common) && num_steps(item) > 0) {
        for (int operand = 0; operand < 2; ++operand) {
          barrier_wait(shared.outer_full(operand, 0), outer.parity);
          zero_rows<Layout, kTileRows>(shared.outer(operand, 0), item.k_size, kTileRows);
          arrive(shared.outer_clean(operand));
        }
        outer.advance();
      }
    }
#pragma unroll 1
    for (int i = inner_needs_cleaning<Kernel>(params.common) ? num_steps(item) : 0; i > 0; --i) {
#pragma unroll 1
      for (int operand = 0; operand < 2; ++operand) {
        barrier_wait(shared.inner_full(operand, inner.stage), inner.parity);
        // It stays as long as either operand.
        zero_dead_rows<Layout, Kernel::kInnerRows>(
            shared.inner(operand, inner.stage), params.pass.lists,
            Pass::step_of(shared.control->steps[inner.stage]), Pass::inner_length(item));
        arrive(shared.inner_clean(operand, inner.stage));
      }
      inner.advance();
    }
    arrive(shared.item_empty(place.stage));
  }
}

}  // namespace perpend::device
