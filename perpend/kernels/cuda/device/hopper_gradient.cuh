#pragma once

#include <type_traits>

#include "perpend/kernels/cuda/device/hopper_fused_computer.cuh"
#include "perpend/kernels/cuda/device/hopper_gradient_cleaner.cuh"
#include "perpend/kernels/cuda/device/hopper_gradient_computer.cuh"
#include "perpend/kernels/cuda/device/hopper_gradient_copier.cuh"

// A pass of the backward kernel for Hopper: persistent CTAs that take work items, longest first,
// and walk their lists. One pass computes dq from the lists of rows, the other dk and dv from those
// of columns, each with products of its own and without atomics, after FlashAttention-2,
// arXiv:2307.08691, algorithm 2, with the warpgroups of FlashAttention-3, arXiv:2407.08608: in each
// CTA two compute 64 outer rows each, a third copies. A fused pass computes all three from the
// lists of columns.

namespace perpend::device {

template <class Kernel>
__global__ void __launch_bounds__(Kernel::kThreads, Kernel::kCtasOfSm)
    hopper_gradient(const __grid_constant__ typename Kernel::Params params) {
  // NOLINTNEXTLINE(readability-redundant-declaration): an emulated GPU has declared it
  extern __shared__ __align__(1024) char memory[];
  const GradientShared<Kernel> shared(memory);

  if (threadIdx.x == 0) init_barriers(shared, needs_cleaning<Kernel>(params.common));
  if (params.pass.lists.box_rows < Kernel::kInnerRows) zero_inner(shared);
  __syncthreads();
  if (threadIdx.x < kGradientCopyThreads) {
    give_registers<Kernel::kCopyRegisters>();
    const int warp = __shfl_sync(0xffffffffU, static_cast<int>(threadIdx.x) / 32, 0);
    if (warp == 0) GradientCopier<Kernel, 0>(params, shared).run();
    if (warp == 1 && threadIdx.x % 32 == 0) {
      fetch_gradient_items<Kernel>(params, shared);
    }
    if (warp == 2) GradientCopier<Kernel, 1>(params, shared).run();
    if (warp == 3 && needs_cleaning<Kernel>(params.common))
      clean_gradient_rows<Kernel>(params, shared);
  } else {
    take_registers<Kernel::kRegisters>();
    using Computer =
        std::conditional_t<Kernel::kFused, FusedGradientComputer<Kernel>, GradientComputer<Kernel>>;
    Computer(params, shared).run();
  }
}

}  // namespace perpend::device
