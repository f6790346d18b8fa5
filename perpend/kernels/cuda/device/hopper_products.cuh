#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/ptx.cuh"
#include "perpend/kernels/cuda/device/shared_layout.h"
#include "perpend/kernels/cuda/device/wgmma.cuh"

// The two products of a step of the forward kernels, by one warpgroup: in flight on return, as one
// batch. Operands in shared memory are given by the low words of their descriptors.

namespace perpend::device {

// s = q k^T of 64 queries, in a tile of kQueryRows rows, and 2 * kCount keys, in one of kKeyRows.
template <class Element, int kHeadDim, int kQueryRows, int kKeyRows, int kCount>
__device__ __forceinline__ void issue_key_product(float (&s)[kCount], std::uint32_t q_low,
                                                  std::uint32_t k_low) {
  using Layout = TileLayout<kHeadDim>;
  touch(s);
  product_fence();
#pragma unroll
  for (int i = 0; i < kHeadDim / kStepDepth; ++i) {
    SharedProduct<Element, 2 * kCount>::add(
        s, descriptor(q_low + Layout::column_step(i, kQueryRows), Layout::kDescriptorHigh),
        descriptor(k_low + Layout::column_step(i, kKeyRows), Layout::kDescriptorHigh), i != 0);
  }
  product_commit();
}

// o += p v of 64 queries and 4 * kWeights keys.
template <class Element, int kCount, int kWeights>
__device__ __forceinline__ void issue_value_product(float (&o)[kCount],
                                                    const std::uint32_t (&p)[kWeights],
                                                    std::uint32_t v_low) {
  using Layout = TileLayout<2 * kCount>;
  touch(o);
  product_fence();
#pragma unroll
  for (int i = 0; i < 4 * kWeights / kStepDepth; ++i) {
    RegisterProduct<Element, 2 * kCount>::add(
        o, p + 4 * i, descriptor(v_low + Layout::row_step(i), Layout::kDescriptorHigh));
  }
  product_commit();
}

}  // namespace perpend::device
