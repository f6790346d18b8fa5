#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/element.cuh"
#include "perpend/kernels/cuda/device/hopper_decode_params.h"
#include "perpend/kernels/cuda/device/launch_order.cuh"
#include "perpend/kernels/cuda/device/row_output.cuh"
#include "perpend/kernels/cuda/device/score_change.cuh"

// Adds up the rows of items that a list was cut into, in its order: o = sum of 2^(l_i - l) o_i with
// 2^l = sum of 2^l_i, l in units of log2. A warp a row, in which a lane has columns side by side.

namespace perpend::device {

__device__ __forceinline__ float max_of_warp(float value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    value = fmaxf(value, __shfl_xor_sync(0xffffffffU, value, step));
  }
  return value;
}
__device__ __forceinline__ float sum_of_warp(float value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffU, value, step);
  return value;
}

template <class Element, int kHeadDim>
class RowSum {
 public:
  // Row `row` of the sum.
  __device__ __forceinline__ RowSum(const SplitSumParams& params, const SplitSum& sum, int row)
      : params_(params),
        lane_(static_cast<int>(threadIdx.x) % 32),
        num_items_(sum.num_items),
        rows_of_item_(rows_of_item(sum.item, params.group_size)),
        first_(std::int64_t{sum.item.split_row} + row) {}

  __device__ __forceinline__ void run(const Place& place, const Place::Row& row) const {
    const float lse = total_lse();
    float o[kColumns];
#pragma unroll
    for (int c = 0; c < kColumns; ++c) o[c] = 0.0F;
    // Nothing is added to a row without a live key.
    if (lse != -INFINITY) add_items(lse, o);
    write(o, row_offset(params_.outputs.o_strides, place, row));
    if (lane_ == 0 && params_.outputs.lse != nullptr) {
      params_.outputs.lse[row_offset(params_.outputs.lse_strides, place, row)] = lse * kLn2;
    }
  }

 private:
  static constexpr int kColumns = kHeadDim / 32;  // of a lane

  __device__ __forceinline__ std::int64_t row_of(int item) const {
    return first_ + std::int64_t{item} * rows_of_item_;
  }
  __device__ __forceinline__ float lse_of(int item) const {
    return params_.split.lse[row_of(item)] * kLog2E;
  }

  // In units of log2.
  __device__ __forceinline__ float total_lse() const {
    float max = -INFINITY;
    for (int i = lane_; i < num_items_; i += 32) max = fmaxf(max, lse_of(i));
    max = max_of_warp(max);
    if (max == -INFINITY) return max;
    float sum = 0.0F;
    for (int i = lane_; i < num_items_; i += 32) sum += exp2_approx(lse_of(i) - max);
    return max + __log2f(sum_of_warp(sum));
  }

  __device__ __forceinline__ void add_items(float lse, float (&o)[kColumns]) const {
#pragma unroll 8
    for (int i = 0; i < num_items_; ++i) {
      const float weight = exp2_approx(lse_of(i) - lse);
      const auto* from = reinterpret_cast<const float2*>(params_.split.o + row_of(i) * kHeadDim +
                                                         lane_ * kColumns);
#pragma unroll
      for (int c = 0; c < kColumns / 2; ++c) {
        const float2 pair = from[c];
        o[2 * c] = fmaf(weight, pair.x, o[2 * c]);
        o[2 * c + 1] = fmaf(weight, pair.y, o[2 * c + 1]);
      }
    }
  }

  __device__ __forceinline__ void write(const float (&o)[kColumns], std::int64_t first) const {
    const Outputs& out = params_.outputs;
#pragma unroll
    for (int c = 0; c < kColumns; c += 2) {
      const int column = lane_ * kColumns + c;
      const int count = out.head_dim - column;  // columns that are written
      if (count <= 0) return;
      if (out.o_is_f32) {
        float* to = static_cast<float*>(out.o) + first + column;
        to[0] = o[c];
        if (count > 1) to[1] = o[c + 1];
        continue;
      }
      const std::uint32_t pair = Element::pack(o[c], o[c + 1]);
      auto* to = static_cast<std::uint16_t*>(out.o) + first + column;
      if (out.o_is_aligned) {
        *reinterpret_cast<std::uint32_t*>(to) = pair;
        continue;
      }
      to[0] = static_cast<std::uint16_t>(pair);
      if (count > 1) to[1] = static_cast<std::uint16_t>(pair >> 16);
    }
  }

  const SplitSumParams& params_;
  int lane_;
  int num_items_;
  std::int32_t rows_of_item_;
  std::int64_t first_;
};

template <class Element, int kHeadDim>
__global__ void __launch_bounds__(32 * kRowsOfSumCta)
    split_sum(const __grid_constant__ SplitSumParams params) {
  let_next_launch_start();
  // The lists came by copies, before which no launch behind them starts: only the rows of the
  // launch before are waited for.
  const auto index = static_cast<int>(blockIdx.x);
  const bool is_there = index < params.counts->num_sums;
  const SplitSum sum = is_there ? params.sums[index] : SplitSum{};
  const int row = sum.first_row + static_cast<int>(threadIdx.x) / 32;
  wait_for_launch_before();
  if (!is_there || row >= rows_of_item(sum.item, params.group_size)) return;
  const Place place = place_of(sum.item, params.q_is_ragged);
  const int heads = place.is_packed ? params.group_size : 1;
  RowSum<Element, kHeadDim>(params, sum, row).run(place, {row / heads, row % heads, true});
}

}  // namespace perpend::device
