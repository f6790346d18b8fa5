#pragma once

#include <cmath>
#include <cstdint>

#include "perpend/kernels/cuda/device/attention_drift_params.h"
#include "perpend/kernels/cuda/device/attention_drift_tiles.cuh"

// What Elastic-Cache decides by (kernels/attention_drift.h), of all layers of a call in four
// launches: scores of each part of the keys for their largest and the sum of exponentials; the
// logsumexp of all parts; the same scores again, now as weights, for the sums over window rows and
// for what the cosines are made of; their means.
//
// A CTA has 64 keys of a layer, which lie together in their page, head by head, and four warps, of
// which each multiplies them with 16 rows of queries. What bounds it is reading the keys twice.
// All sums are in a fixed order.

namespace perpend::device {

// The first kernel: one CTA for each (layer, some heads, part of the keys).
template <class Element, int kHeadDim>
class DriftStatistics {
 public:
  __device__ __forceinline__ DriftStatistics(const DriftParams& params, std::uint16_t* shared)
      : params_(params),
        index_(static_cast<int>(blockIdx.x)),
        part_(index_ % params.num_parts()),
        layer_(index_ / params.num_parts() / params.num_head_parts()),
        tiles_(params, layer_, part_, shared) {}

  __device__ __forceinline__ void run() {
    const int first = index_ / params_.num_parts() % params_.num_head_parts() * kDriftHeadsOfCta;
    tiles_.run(first, min(first + kDriftHeadsOfCta, params_.num_kv_heads),
               [&](int kv_head) { take(kv_head); });
  }

 private:
  __device__ __forceinline__ void take(int kv_head) {
    const int group_size = params_.group_size();
    const DriftRows of_window = drift_rows(params_, layer_, DriftKind::kWindow);
    const DriftRows after = drift_rows(params_, layer_, DriftKind::kAfter);
    const DriftRows before = drift_rows(params_, layer_, DriftKind::kBefore);
    for (int i = 0; i < group_size; ++i) {
      const int head = kv_head * group_size + i;
      int tile = static_cast<int>(threadIdx.x) / 32;
      tile = put_all(of_window, head, tile);
      tile = put_all(after, head, tile);
      put_all(before, head, tile);
    }
  }

  // Every fourth tile of the rows; returns the first of this warp's in those that follow.
  __device__ __forceinline__ int put_all(const DriftRows& rows, int head, int tile) {
    const int count = num_tiles(rows.count);
    for (; tile < count; tile += kDriftWarps) put(rows, head, tile);
    return tile - count;
  }

  __device__ __forceinline__ void put(const DriftRows& rows, int head, int tile) {
    float s[kDriftKeys / 2];
    tiles_.multiply(s, rows, head, tile);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float max = -INFINITY;
#pragma unroll
      for (int i = 0; i < kDriftKeys / 4; ++i) max = fmaxf(max, s[DriftPlace::index(i, half)]);
      max = fmaxf(max, __shfl_xor_sync(0xffffffffU, max, 1));
      max = fmaxf(max, __shfl_xor_sync(0xffffffffU, max, 2));
      float sum = 0.0F;
#pragma unroll
      for (int i = 0; i < kDriftKeys / 4; ++i) sum += expf(s[DriftPlace::index(i, half)] - max);
      sum = sum_of_quad(sum);
      const int row = tile * kDriftRows + DriftPlace::row(half);
      if (threadIdx.x % 4 != 0 || row >= rows.count) continue;
      params_.parts[(std::int64_t{layer_} * params_.num_rows() + rows.first + row) *
                        params_.num_q_heads * params_.num_parts() +
                    std::int64_t{head} * params_.num_parts() + part_] = {max, sum};
    }
  }

  const DriftParams& params_;
  int index_;
  int part_;
  int layer_;
  DriftTiles<Element, kHeadDim> tiles_;
};

// The third kernel: one CTA for each (layer, part of the keys), all heads.
template <class Element, int kHeadDim>
class DriftWeights {
 public:
  __device__ __forceinline__ DriftWeights(const DriftParams& params, std::uint16_t* shared)
      : params_(params),
        part_(static_cast<int>(blockIdx.x) % params.num_parts()),
        layer_(static_cast<int>(blockIdx.x) / params.num_parts()),
        tiles_(params, layer_, part_, shared),
        joined_(reinterpret_cast<float*>(shared)),
        attended_(reinterpret_cast<float*>(shared + DriftTiles<Element, kHeadDim>::kValues)) {}

  __device__ __forceinline__ void run() {
    const int window_tiles = num_tiles(params_.num_window);
    const int tiles = window_tiles + num_tiles(params_.num_tracked);
    const int warp = static_cast<int>(threadIdx.x) / 32;
    float attended = 0.0F;  // of the key of this thread
    for (int first = 0; first < tiles; first += kDriftWarps) {
      // Warps that would have no rows take some heads of those that have.
      const int width = min(kDriftWarps, tiles - first);
      const int num_teams = kDriftWarps / width;
      const int team = warp / width;
      const int tile = first + warp % width;
      const bool is_window = team < num_teams && tile < window_tiles;
      const bool is_tracked = team < num_teams && tile >= window_tiles;
      clear();
      tiles_.run(0, params_.num_kv_heads, [&](int kv_head) {
        for (int i = 0; i < params_.group_size(); ++i) {
          const int head = kv_head * params_.group_size() + i;
          if (head % num_teams != team) continue;
          if (is_window) add_window(head, tile);
          if (is_tracked) add_tracked(head, tile - window_tiles);
        }
      });
      if (!params_.by_keys) {
        for (int other = 1; other < num_teams; ++other) {
          join_teams(warp % width, is_tracked && team == 0, is_tracked && team == other);
        }
        if (is_tracked && team == 0) put_cosines(tile - window_tiles);
      }
      attended = add_attended(attended, is_window);
    }
    const int key = part_ * kDriftKeys + static_cast<int>(threadIdx.x);
    if (threadIdx.x < kDriftKeys && key < params_.canvas) {
      params_.attended[std::int64_t{layer_} * params_.canvas + key] = attended;
    }
  }

 private:
  static constexpr int kScores = kDriftKeys / 2;

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < kScores; ++i) both_[i] = before_[i] = after_[i] = 0.0F;
  }

  // Weights of a tile of rows, 0 of rows and keys that are not there.
  __device__ __forceinline__ void weigh(float (&s)[kScores], DriftKind kind, int head, int tile) {
    const DriftRows rows = drift_rows(params_, layer_, kind);
    tiles_.multiply(s, rows, head, tile);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = tile * kDriftRows + DriftPlace::row(half);
      const bool is_there = row < rows.count;
      const std::int64_t at =
          (std::int64_t{layer_} * params_.num_rows() + rows.first + row) * params_.num_q_heads +
          head;
      const float lse = is_there ? params_.lse[at] : 0.0F;
#pragma unroll
      for (int i = 0; i < kDriftKeys / 4; ++i) {
        float& value = s[DriftPlace::index(i, half)];
        value = is_there ? expf(value - lse) : 0.0F;
      }
    }
  }

  __device__ __forceinline__ void add_window(int head, int tile) {
    float weights[kScores];
    weigh(weights, DriftKind::kWindow, head, tile);
#pragma unroll
    for (int i = 0; i < kScores; ++i) both_[i] += weights[i];
  }

  __device__ __forceinline__ void add_tracked(int head, int tile) {
    float after[kScores];
    float before[kScores];
    weigh(after, DriftKind::kAfter, head, tile);
    weigh(before, DriftKind::kBefore, head, tile);
    if (params_.by_keys) {
      put_products(before, after, head, tile);
      return;
    }
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
      both_[i] += before[i] * after[i];
      before_[i] += before[i] * before[i];
      after_[i] += after[i] * after[i];
    }
  }

  // Of each row the three sums over these keys.
  __device__ __forceinline__ void put_products(const float (&before)[kScores],
                                               const float (&after)[kScores], int head, int tile) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sums[3] = {0.0F, 0.0F, 0.0F};
#pragma unroll
      for (int i = 0; i < kDriftKeys / 4; ++i) {
        const float a = before[DriftPlace::index(i, half)];
        const float b = after[DriftPlace::index(i, half)];
        sums[0] += a * b;
        sums[1] += a * a;
        sums[2] += b * b;
      }
#pragma unroll
      for (int i = 0; i < 3; ++i) sums[i] = sum_of_quad(sums[i]);
      const int row = tile * kDriftRows + DriftPlace::row(half);
      if (threadIdx.x % 4 != 0 || row >= params_.num_tracked) continue;
      float* to = params_.cosines + ((place() + row) * params_.num_q_heads + head) * 3;
#pragma unroll
      for (int i = 0; i < 3; ++i) to[i] = sums[i];
    }
  }

  // Adds the sums of one warp to those of another that has the same rows, by way of memory in which
  // no keys are any more.
  __device__ __forceinline__ void join_teams(int place, bool takes, bool gives) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    float* shared = joined_ + place * 3 * kScores * 32 + lane;
    if (gives) {
#pragma unroll
      for (int i = 0; i < kScores; ++i) {
        shared[3 * i * 32] = both_[i];
        shared[(3 * i + 1) * 32] = before_[i];
        shared[(3 * i + 2) * 32] = after_[i];
      }
    }
    __syncthreads();
    if (takes) {
#pragma unroll
      for (int i = 0; i < kScores; ++i) {
        both_[i] += shared[3 * i * 32];
        before_[i] += shared[(3 * i + 1) * 32];
        after_[i] += shared[(3 * i + 2) * 32];
      }
    }
    __syncthreads();
  }

  // Of each row the sum of the cosines of these keys.
  __device__ __forceinline__ void put_cosines(int tile) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = 0.0F;
#pragma unroll
      for (int i = 0; i < kDriftKeys / 4; ++i) {
        const int at = DriftPlace::index(i, half);
        const bool is_there = part_ * kDriftKeys + DriftPlace::key(at) < params_.canvas;
        sum += is_there ? cosine(both_[at], before_[at], after_[at]) : 0.0F;
      }
      sum = sum_of_quad(sum);
      const int row = tile * kDriftRows + DriftPlace::row(half);
      if (threadIdx.x % 4 == 0 && row < params_.num_tracked) params_.cosines[place() + row] = sum;
    }
  }

  // Adds the weights of the window rows of all warps to those of the key of this thread.
  __device__ __forceinline__ float add_attended(float attended, bool is_window) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    float* of_warp = attended_ + static_cast<int>(threadIdx.x) / 32 * kDriftKeys;
#pragma unroll
    for (int i = 0; i < kDriftKeys / 4; ++i) {
      float sum = both_[DriftPlace::index(i, 0)] + both_[DriftPlace::index(i, 1)];
#pragma unroll
      for (int step = 4; step < 32; step *= 2) sum += __shfl_xor_sync(0xffffffffU, sum, step);
      if (lane < 4) of_warp[DriftPlace::key(DriftPlace::index(i, 0))] = is_window ? sum : 0.0F;
    }
    __syncthreads();
    if (threadIdx.x < kDriftKeys) {
      for (int warp = 0; warp < kDriftWarps; ++warp) {
        attended += attended_[warp * kDriftKeys + static_cast<int>(threadIdx.x)];
      }
    }
    __syncthreads();
    return attended;
  }

  __device__ __forceinline__ std::int64_t place() const {
    return (std::int64_t{layer_} * params_.num_parts() + part_) * params_.num_tracked;
  }

  const DriftParams& params_;
  int part_;
  int layer_;
  DriftTiles<Element, kHeadDim> tiles_;
  float* joined_;    // shared, [tiles, 3 sums, scores, lanes], where the keys are else
  float* attended_;  // shared, [warps, keys]
  // Sums over heads, of window rows the weights alone.
  float both_[kScores];
  float before_[kScores];
  float after_[kScores];
};

template <class Element, int kHeadDim>
constexpr int drift_shared_bytes() {
  // Two tiles at most are joined: more leave no warp for a second team.
  static_assert(2 * DriftTiles<Element, kHeadDim>::kValues >= 2 * 3 * kDriftKeys / 2 * 32 * 4);
  return 2 * DriftTiles<Element, kHeadDim>::kValues + 4 * kDriftWarps * kDriftKeys;
}

template <class Element, int kHeadDim>
__global__ void __launch_bounds__(kDriftThreads)
    drift_statistics(const __grid_constant__ DriftParams params) {
  // NOLINTNEXTLINE(readability-redundant-declaration): an emulated GPU has declared it
  extern __shared__ __align__(16) std::uint16_t shared_values[];
  DriftStatistics<Element, kHeadDim>(params, shared_values).run();
}

template <class Element, int kHeadDim>
__global__ void __launch_bounds__(kDriftThreads)
    drift_weights(const __grid_constant__ DriftParams params) {
  // NOLINTNEXTLINE(readability-redundant-declaration): an emulated GPU has declared it
  extern __shared__ __align__(16) std::uint16_t shared_values[];
  DriftWeights<Element, kHeadDim>(params, shared_values).run();
}

// The second kernel: a thread for each (layer, row, head).
template <int kThreads>
__global__ void drift_join(const __grid_constant__ DriftParams params) {
  const std::int64_t count =
      std::int64_t{params.num_layers} * params.num_rows() * params.num_q_heads;
  const std::int64_t at = std::int64_t{blockIdx.x} * kThreads + static_cast<int>(threadIdx.x);
  if (at >= count) return;
  const DriftPart* parts = params.parts + at * params.num_parts();
  float max = -INFINITY;
  for (int part = 0; part < params.num_parts(); ++part) max = fmaxf(max, parts[part].max);
  float sum = 0.0F;
  for (int part = 0; part < params.num_parts(); ++part) {
    sum += parts[part].sum * expf(parts[part].max - max);
  }
  params.lse[at] = max + logf(sum);
}

// The last kernel: a CTA for each layer.
template <int kThreads>
__global__ void drift_similarity(const __grid_constant__ DriftParams params) {
  // NOLINTNEXTLINE(readability-redundant-declaration): an emulated GPU has declared it
  extern __shared__ __align__(16) std::uint16_t shared_values[];
  auto* sums = reinterpret_cast<float*>(shared_values);  // [warps]
  const int layer = static_cast<int>(blockIdx.x);
  const int vectors = params.num_tracked * (params.by_keys ? params.num_q_heads : 1);
  const int width = params.by_keys ? 3 : 1;
  const float* first = params.cosines + std::int64_t{layer} * params.num_parts() * vectors * width;
  float sum = 0.0F;
  for (int i = static_cast<int>(threadIdx.x); i < vectors; i += kThreads) {
    float totals[3] = {0.0F, 0.0F, 0.0F};
    for (int part = 0; part < params.num_parts(); ++part) {
      for (int j = 0; j < width; ++j) {
        totals[j] += first[(std::int64_t{part} * vectors + i) * width + j];
      }
    }
    sum += params.by_keys ? cosine(totals[0], totals[1], totals[2]) : totals[0];
  }
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffU, sum, step);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  float total = 0.0F;
  for (int warp = 0; warp < kDriftWarps; ++warp) total += sums[warp];
  const int count = params.by_keys ? vectors : vectors * params.canvas;
  params.similarity[layer] = count > 0 ? total / static_cast<float>(count) : 1.0F;
}

}  // namespace perpend::device
