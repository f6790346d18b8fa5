#pragma once

#include <cmath>

#include "perpend/kernels/cuda/device/attention_drift_tiles.cuh"
#include "perpend/kernels/cuda/device/launch_order.cuh"

// The last kernel of attention_drift.cuh.

namespace perpend::device {

__device__ __forceinline__ float cosine(const float (&sums)[3]) {
  const float norms = sqrtf(sums[1]) * sqrtf(sums[2]);
  return norms > 0.0F ? sums[0] / norms : 1.0F;
}

__device__ __forceinline__ float sum_of_warp(float value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffU, value, step);
  return value;
}

// One CTA for each (layer, tile of the keys), of which the last of a layer takes the mean.
class DriftMeans {
 public:
  static constexpr int kSharedBytes = 4 * (kDriftMeansThreads / 32);

  __device__ __forceinline__ DriftMeans(const DriftParams& params, float* of_warps)
      : params_(params),
        split_(params.split),
        of_warps_(of_warps),
        tile_(static_cast<int>(blockIdx.x) % split_.num_tiles()),
        layer_(static_cast<int>(blockIdx.x) / split_.num_tiles()) {}

  __device__ __forceinline__ void run() {
    wait_for_launch_before();
    put_attended();
    const float cosines = sum_of_warp(split_.by_keys ? cosines_by_keys() : cosines_by_heads());
    const int thread = static_cast<int>(threadIdx.x);
    if (thread % 32 == 0) of_warps_[thread / 32] = cosines;
    __syncthreads();
    if (thread < 32) put_cosines();
  }

 private:
  __device__ __forceinline__ void put_attended() const {
    const int key = tile_ * kDriftKeys + static_cast<int>(threadIdx.x);
    if (threadIdx.x >= kDriftKeys || key >= split_.canvas) return;
    const float* sums = params_.weight_sums + split_.weight_sums_at(layer_, 0, 0) + key;
    const int count = split_.num_window_groups() * split_.num_head_groups();
    float sum = 0.0F;
#pragma unroll 8
    for (int i = 0; i < count; ++i) sum += sums[std::int64_t{i} * split_.canvas];
    params_.attended[std::int64_t{layer_} * split_.canvas + key] = sum;
  }

  // Of a key of the tile and some tracked rows.
  __device__ __forceinline__ float cosines_by_heads() const {
    const int thread = static_cast<int>(threadIdx.x);
    const int key = tile_ * kDriftKeys + thread % kDriftKeys;
    if (key >= split_.canvas) return 0.0F;
    float cosines = 0.0F;
    for (int row = thread / kDriftKeys; row < split_.num_tracked;
         row += kDriftMeansThreads / kDriftKeys) {
      float sums[3] = {0.0F, 0.0F, 0.0F};
#pragma unroll 8
      for (int group = 0; group < split_.num_head_groups(); ++group) {
        const float* from = params_.products + split_.products_at(layer_, group, row) + key;
#pragma unroll
        for (int i = 0; i < 3; ++i) sums[i] += from[std::int64_t{i} * split_.tile_keys()];
      }
      cosines += cosine(sums);
    }
    return cosines;
  }

  // Of some tracked rows and heads.
  __device__ __forceinline__ float cosines_by_keys() const {
    const int heads = split_.num_q_heads;
    float cosines = 0.0F;
    for (int i = tile_ * kDriftMeansThreads + static_cast<int>(threadIdx.x);
         i < split_.num_tracked * heads; i += split_.num_tiles() * kDriftMeansThreads) {
      const float* from =
          params_.products + split_.products_by_keys_at(layer_, i / heads, i % heads);
      float sums[3] = {0.0F, 0.0F, 0.0F};
      for (int part = 0; part < split_.num_warp_parts(); ++part) {
#pragma unroll
        for (int j = 0; j < 3; ++j) sums[j] += from[3 * part + j];
      }
      cosines += cosine(sums);
    }
    return cosines;
  }

  // By one warp.
  __device__ __forceinline__ void put_cosines() const {
    const int lane = static_cast<int>(threadIdx.x);
    float* of_layer = params_.cosines + std::int64_t{layer_} * split_.num_tiles();
    const float sum = sum_of_warp(lane < kDriftMeansThreads / 32 ? of_warps_[lane] : 0.0F);
    unsigned before = 0;
    if (lane == 0) {
      of_layer[tile_] = sum;
      __threadfence();
      before = atomicAdd(&params_.counters[layer_], 1U);
    }
    before = __shfl_sync(0xffffffffU, before, 0);
    if (before + 1 < static_cast<unsigned>(split_.num_tiles())) return;
    __threadfence();
    // Not from a cache in which they may be as they were.
    const volatile float* all = of_layer;
    float total = 0.0F;
    for (int tile = lane; tile < split_.num_tiles(); tile += 32) total += all[tile];
    total = sum_of_warp(total);
    if (lane != 0) return;
    const std::int64_t count =
        std::int64_t{split_.num_tracked} * (split_.by_keys ? split_.num_q_heads : split_.canvas);
    params_.similarity[layer_] = count > 0 ? total / static_cast<float>(count) : 1.0F;
  }

  const DriftParams& params_;
  const DriftSplit& split_;
  float* of_warps_;  // shared
  int tile_, layer_;
};

template <int kThreads>
__global__ void __launch_bounds__(kThreads)
    drift_means(const __grid_constant__ DriftParams params) {
  // NOLINTNEXTLINE(readability-redundant-declaration): an emulated GPU has declared it
  extern __shared__ __align__(16) std::uint16_t shared_values[];
  static_assert(kThreads == kDriftMeansThreads);
  DriftMeans(params, reinterpret_cast<float*>(shared_values)).run();
}

}  // namespace perpend::device
