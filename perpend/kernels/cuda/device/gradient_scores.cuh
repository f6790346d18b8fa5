#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/gradient_params.h"
#include "perpend/kernels/cuda/device/score_change.cuh"

// From the scores s and the products t = d_o v^T of a step to the weights p and the gradients of
// the scores, d_s = p (t - delta), in the registers that a product leaves.

namespace perpend::device {

// A statistic of the four registers 4 g to 4 g + 3 of a thread.
struct FourStatistics {
  float of[4];
};

// s becomes exp2(factor * s - lse) for the registers of groups [kFrom, kTo).
template <int kFrom, int kTo, int kCount, class LseOf>
__device__ __forceinline__ void weigh(float (&s)[kCount], float factor, LseOf negative_lse_of) {
#pragma unroll
  for (int g = kFrom; g < kTo; ++g) {
    const FourStatistics lse = negative_lse_of(g);
#pragma unroll
    for (int i = 0; i < 4; ++i) s[4 * g + i] = exp2_approx(fmaf(s[4 * g + i], factor, lse.of[i]));
  }
}

// Weights whose bit is 0 become 0; 32 of them a word.
template <int kFrom, int kTo, int kCount>
__device__ __forceinline__ void mask_weights(float (&p)[kCount], const std::uint32_t* bits) {
#pragma unroll
  for (int j = 4 * kFrom; j < 4 * kTo; ++j) {
    if ((bits[j / 32] & 1U << j % 32) == 0) p[j] = 0.0F;
  }
}

// t becomes d_s.
template <int kCount, class DeltaOf>
__device__ __forceinline__ void differentiate(const float (&p)[kCount], float (&t)[kCount],
                                              DeltaOf delta_of) {
#pragma unroll
  for (int g = 0; g < kCount / 4; ++g) {
    const FourStatistics delta = delta_of(g);
#pragma unroll
    for (int i = 0; i < 4; ++i) t[4 * g + i] = p[4 * g + i] * (t[4 * g + i] - delta.of[i]);
  }
}

// Where the two outer rows of a thread stand, and the slopes of their heads in units of log2; a
// step of queries has one slope for all.
struct OuterPositions {
  std::int32_t position[2];
  float slope[2];
};

__device__ __forceinline__ float slope_of(const Scores& scores, std::int32_t head) {
  return scores.alibi_slopes == nullptr ? 0.0F : scores.alibi_slopes[head] * kLog2E;
}

// weigh() and differentiate() where the scores are capped or have a bias: s becomes p and t d_s
// without the scale. inner_position_of(column): of the step.
template <int kCount, class LseOf, class DeltaOf, class PositionOf>
__device__ __forceinline__ void weigh_changed(float (&s)[kCount], float (&t)[kCount],
                                              const Scores& change, const OuterPositions& outer,
                                              LseOf negative_lse_of, DeltaOf delta_of,
                                              PositionOf inner_position_of) {
  const float cap = change.soft_cap * kLog2E;
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int g = 0; g < kCount / 4; ++g) {
    const FourStatistics lse = negative_lse_of(g);
    const FourStatistics delta = delta_of(g);
    std::int32_t inner[2] = {0, 0};
    if (change.alibi_slopes != nullptr) {
      inner[0] = inner_position_of(fragment_column(thread, 4 * g));
      inner[1] = inner_position_of(fragment_column(thread, 4 * g + 1));
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float score = s[4 * g + i] * change.factor;
      float derivative = 1.0F;
      if (cap > 0.0F) {
        const TanhAndSlope capped = tanh_and_slope(score / cap);
        score = cap * capped.value;
        derivative = capped.slope;
      }
      const auto distance = static_cast<float>(abs(outer.position[i / 2] - inner[i % 2]));
      const float p = exp2_approx(score - outer.slope[i / 2] * distance + lse.of[i]);
      s[4 * g + i] = p;
      t[4 * g + i] = p * (t[4 * g + i] - delta.of[i]) * derivative;
    }
  }
}

}  // namespace perpend::device
