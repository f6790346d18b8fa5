#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/ptx.cuh"

// Softmax over the columns of a 64-row part as they come, step by step, in the registers that a
// product leaves: each thread has two rows, and four threads beside each other share them.

namespace perpend::device {

constexpr float kLn2 = 0.69314718F;

// What is known of the two rows of a thread.
struct RowState {
  float max[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0.0F, 0.0F};  // of this thread's columns, relative to 2^(max * factor)
};

__device__ __forceinline__ float max_of_row(float value) {
  value = fmaxf(value, __shfl_xor_sync(0xffffffffU, value, 1));
  return fmaxf(value, __shfl_xor_sync(0xffffffffU, value, 2));
}
__device__ __forceinline__ float sum_of_row(float value) {
  value += __shfl_xor_sync(0xffffffffU, value, 1);
  return value + __shfl_xor_sync(0xffffffffU, value, 2);
}

// Turns the scores of row `kRow` (0 or 1) of this thread into exp2((score - max) * factor) and
// takes them into the sum. Returns what everything before must be multiplied by. kMayBeDead: the
// row may have no live column yet, which full steps rule out.
template <int kRow, bool kMayBeDead, int kCount>
__device__ __forceinline__ float softmax_row(float (&scores)[kCount], RowState& rows,
                                             float factor) {
  float max = rows.max[kRow];
#pragma unroll
  for (int j = 2 * kRow; j < kCount; j += 4) max = fmaxf(max, fmaxf(scores[j], scores[j + 1]));
  max = max_of_row(max);
  const float reference = kMayBeDead && max == -INFINITY ? 0.0F : max;
  const float rescale = exp2_approx((rows.max[kRow] - reference) * factor);
  rows.max[kRow] = max;
  const float offset = reference * factor;
  float sum = rows.sum[kRow] * rescale;
#pragma unroll
  for (int j = 2 * kRow; j < kCount; j += 4) {
    scores[j] = exp2_approx(fmaf(scores[j], factor, -offset));
    scores[j + 1] = exp2_approx(fmaf(scores[j + 1], factor, -offset));
    sum += scores[j] + scores[j + 1];
  }
  rows.sum[kRow] = sum;
  return rescale;
}

// Multiplies the rows of an accumulator, unless no row of the warp needs it, which is exact.
template <int kCount>
__device__ __forceinline__ void rescale_rows(float (&o)[kCount], float upper, float lower) {
  if (__any_sync(0xffffffffU, upper != 1.0F || lower != 1.0F) == 0) return;
#pragma unroll
  for (int j = 0; j < kCount; j += 4) {
    o[j] *= upper;
    o[j + 1] *= upper;
    o[j + 2] *= lower;
    o[j + 3] *= lower;
  }
}

// Scores to the 16-bit operand of the second product, whose registers stand in the same order.
template <class Element, int kCount>
__device__ __forceinline__ void pack_scores(const float (&scores)[kCount],
                                            std::uint32_t (&packed)[kCount / 2]) {
#pragma unroll
  for (int i = 0; i < kCount / 2; ++i) {
    packed[i] = Element::pack(scores[2 * i], scores[2 * i + 1]);
  }
}

// Scores whose bit is 0 become -inf; 32 of them a word.
template <int kCount>
__device__ __forceinline__ void mask_scores(float (&scores)[kCount], const std::uint32_t* bits) {
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
    if ((bits[j / 32] & 1U << j % 32) == 0) scores[j] = -INFINITY;
  }
}

}  // namespace perpend::device
