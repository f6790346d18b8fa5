#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/element.cuh"

// Products of a warpgroup: 64 x kWidth over 16 values, added to the registers of the warpgroup,
// asynchronously (PTX ISA, "wgmma.mma_async").

namespace perpend::device {

// d = a b^T (+ d when `accumulate`), rows of a and b in shared memory.
template <class Element, int kWidth>
struct SharedProduct;

// d = a^T b (+ d when `accumulate`), rows of a and b in shared memory.
template <class Element, int kWidth>
struct TransposedProduct;

// d += a b, a in registers, rows of b in shared memory.
template <class Element, int kWidth>
struct RegisterProduct;

}  // namespace perpend::device
