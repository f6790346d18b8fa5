#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/attention_image.h"
#include "perpend/kernels/cuda/device/element.cuh"
#include "perpend/kernels/cuda/device/mma.cuh"
#include "perpend/kernels/cuda/device/portable_params.h"

// Tiles of the portable kernels in shared memory, and products with them by four warps of 16 rows
// each.

namespace perpend::device {

constexpr int kPortableThreads = 128;

// Values from a row of a tile to the next: no two of eight rows in the same banks.
constexpr int pitch(int head_dim) { return head_dim + 8; }

// Rows to shared memory; offset_of(row) < 0 stands for a row of zeros, as do columns behind
// head_dim.
template <int kHeadDim, class OffsetOf>
__device__ __forceinline__ void load_rows(std::uint16_t* to, int rows, const RowSource& from,
                                          int head_dim, OffsetOf offset_of) {
  constexpr int kChunks = kHeadDim / 8;
  for (int i = static_cast<int>(threadIdx.x); i < rows * kChunks; i += kPortableThreads) {
    const int row = i / kChunks;
    const int column = i % kChunks * 8;
    const std::int64_t offset = offset_of(row);
    std::uint16_t* chunk = to + row * pitch(kHeadDim) + column;
    const std::uint16_t* source = from.data + offset + column;
    const bool is_there = offset >= 0 && column < head_dim;
    if (from.is_aligned) {
      copy_chunk(chunk, is_there ? source : from.data, is_there);
      continue;
    }
#pragma unroll
    for (int c = 0; c < 8; ++c) {
      chunk[c] = is_there && column + c < head_dim ? source[c] : std::uint16_t{0};
    }
  }
}

// s = a b^T for the warp's 16 of 64 rows of `a` and all 2 * kCount rows of `b`.
template <class Element, int kHeadDim, int kCount>
__device__ __forceinline__ void multiply_rows(float (&s)[kCount], const std::uint16_t* a,
                                              const std::uint16_t* b) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
  for (int i = 0; i < kCount; ++i) s[i] = 0.0F;
  const std::uint16_t* a_row = a + (warp * 16 + lane % 16) * pitch(kHeadDim) + lane / 16 * 8;
  const std::uint16_t* b_row = b + (lane / 16 * 8 + lane % 8) * pitch(kHeadDim) + lane / 8 % 2 * 8;
#pragma unroll
  for (int d = 0; d < kHeadDim; d += 16) {
    std::uint32_t left[4];
    load_matrices(left, a_row + d);
#pragma unroll
    for (int n = 0; n < 2 * kCount; n += 16) {
      std::uint32_t right[4];
      load_matrices(right, b_row + n * pitch(kHeadDim) + d);
      Mma<Element>::add(s + n / 2, left, right[0], right[1]);
      Mma<Element>::add(s + n / 2 + 4, left, right[2], right[3]);
    }
  }
}

// sums += weights b for the 4 * kWeights rows of `b`.
template <class Element, int kSums, int kWeights>
__device__ __forceinline__ void add_product(float (&sums)[kSums],
                                            const std::uint32_t (&weights)[kWeights],
                                            const std::uint16_t* b) {
  constexpr int kHeadDim = 2 * kSums;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::uint16_t* b_row = b + lane % 16 * pitch(kHeadDim) + lane / 16 * 8;
#pragma unroll
  for (int row = 0; row < 4 * kWeights; row += 16) {
#pragma unroll
    for (int d = 0; d < kHeadDim; d += 16) {
      std::uint32_t right[4];
      load_matrices_transposed(right, b_row + row * pitch(kHeadDim) + d);
      Mma<Element>::add(sums + d / 2, weights + row / 4, right[0], right[1]);
      Mma<Element>::add(sums + d / 2 + 4, weights + row / 4, right[2], right[3]);
    }
  }
}

}  // namespace perpend::device
