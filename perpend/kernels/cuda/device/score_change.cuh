#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/forward_params.h"
#include "perpend/kernels/cuda/device/ptx.cuh"
#include "perpend/kernels/cuda/device/row_output.cuh"

namespace perpend::device {

constexpr float kLog2E = 1.44269504F;

// tanh to some 1e-7, from the exponential unit (the instruction tanh.approx knows 11 bits only).
__device__ __forceinline__ float tanh_exact(float x) {
  return 1.0F - __fdividef(2.0F, exp2_approx(2.0F * kLog2E * x) + 1.0F);
}

struct TanhAndSlope {
  float value;
  float slope;
};

// The slope is 4 e^-2x / (1 + e^-2x)^2, since 1 - tanh^2 x cancels where tanh is flat.
__device__ __forceinline__ TanhAndSlope tanh_and_slope(float x) {
  const float e = exp2_approx(-2.0F * kLog2E * fabsf(x));
  const float inverse = __fdividef(1.0F, 1.0F + e);
  return {copysignf((1.0F - e) * inverse, x), 4.0F * e * inverse * inverse};
}

// Where the two rows and the columns of a thread's scores stand.
struct ScorePositions {
  std::int32_t upper_query;
  std::int32_t lower_query;
  float upper_slope;
  float lower_slope;
};

// Of the rows tile_row and tile_row + 8.
__device__ __forceinline__ ScorePositions score_positions(const Place& place, int tile_row,
                                                          const ForwardParams& params) {
  const Place::Row upper = place.row(tile_row, params.lists.group_size);
  const Place::Row lower = place.row(tile_row + 8, params.lists.group_size);
  const float* slopes = params.scores.alibi_slopes;
  const auto slope_of = [&](const Place::Row& row) {
    return slopes == nullptr || !row.is_there ? 0.0F : slopes[place.q_head + row.head] * kLog2E;
  };
  return {place.q_position + upper.query, place.q_position + lower.query, slope_of(upper),
          slope_of(lower)};
}

// The position of column `column` of a step, counted inside the sequence.
template <class AnyLists>
__device__ __forceinline__ std::int32_t inner_position(const AnyLists& lists, Step step,
                                                       int column) {
  if ((step.flags & Step::kIsGathered) == 0) return step.begin + column;
  // Columns behind the last box are dead: any position will do.
  const int boxes = static_cast<int>(step.flags >> Step::kBoxesShift & Step::kBoxesMask) + 1;
  const int box = min(column / lists.box_rows, boxes - 1);
  return __ldg(lists.sub_tiles + step.begin + box) + column % lists.box_rows;
}

// q k^T becomes what softmax takes with a factor of 1: scaled, capped (Gemma 2, arXiv:2408.00118),
// with a bias by distance (ALiBi, arXiv:2108.12409), in units of log2. The scores are those of the
// step's columns from `first_column` on.
template <int kCount>
__device__ __forceinline__ void change_scores(float (&scores)[kCount], const ScorePositions& rows,
                                              const ForwardParams& params, Step step,
                                              int first_column = 0) {
  const Scores& change = params.scores;
  const float cap = change.soft_cap;
  const float factor = change.factor;
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
    float score = scores[j] * factor;
    if (cap > 0.0F) score = cap * kLog2E * tanh_exact(score / (cap * kLog2E));
    scores[j] = score;
  }
  if (change.alibi_slopes == nullptr) return;
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int j = 0; j < kCount; j += 4) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int column = first_column + fragment_column(thread, j) + i;
      const std::int32_t key = inner_position(params.lists, step, column);
      scores[j + i] -= rows.upper_slope * static_cast<float>(abs(rows.upper_query - key));
      scores[j + 2 + i] -= rows.lower_slope * static_cast<float>(abs(rows.lower_query - key));
    }
  }
}

}  // namespace perpend::device
