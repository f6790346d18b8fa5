#pragma once

#include "perpend/kernels/cuda/device/attention_drift_tiles.cuh"
#include "perpend/kernels/cuda/device/launch_order.cuh"

// The first kernel of attention_drift.cuh.

namespace perpend::device {

__device__ __forceinline__ DriftPart merged(const DriftPart& a, const DriftPart& b) {
  const float max = fmaxf(a.max, b.max);
  const float reference = max == -INFINITY ? 0.0F : max;
  return {max, a.sum * exp2_approx(a.max - reference) + b.sum * exp2_approx(b.max - reference)};
}

// Of the two rows of a lane in 16 rows, over the keys that it has had.
class DriftState {
 public:
  __device__ __forceinline__ void add(const float (&s)[kDriftScores]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float max = rows_[half].max;
#pragma unroll
      for (int i = 0; i < kDriftScores / 2; ++i) max = fmaxf(max, s[DriftPlace::index(i, half)]);
      const float reference = max == -INFINITY ? 0.0F : max;
      float sum = rows_[half].sum * exp2_approx(rows_[half].max - reference);
#pragma unroll
      for (int i = 0; i < kDriftScores / 2; ++i) {
        sum += exp2_approx(s[DriftPlace::index(i, half)] - reference);
      }
      rows_[half] = {max, sum};
    }
  }

  // Of all lanes that have the row.
  __device__ __forceinline__ DriftPart joined(int half) const {
    DriftPart part = rows_[half];
#pragma unroll
    for (int step = 1; step < 4; step *= 2) {
      part = merged(part, {__shfl_xor_sync(0xffffffffU, part.max, step),
                           __shfl_xor_sync(0xffffffffU, part.sum, step)});
    }
    return part;
  }

 private:
  DriftPart rows_[2] = {{-INFINITY, 0.0F}, {-INFINITY, 0.0F}};
};

// One CTA for each (layer, query head, part of the keys, group of rows), the last ones side by
// side.
template <class Element, int kHeadDim>
class DriftStatistics {
  using Tile = DriftTile<kHeadDim>;

 public:
  static constexpr int kSharedBytes = 2 * (2 * Tile::kKeyValues + Tile::kQueryValues);

  __device__ __forceinline__ DriftStatistics(const DriftParams& params, std::uint16_t* shared)
      : params_(params), split_(params.split), keys_(shared) {
    queries_ = keys_ + 2 * Tile::kKeyValues;
    int index = static_cast<int>(blockIdx.x);
    group_ = index % split_.num_groups();
    index /= split_.num_groups();
    part_ = index % split_.num_all_parts();
    index /= split_.num_all_parts();
    head_ = index % split_.num_q_heads;
    layer_ = index / split_.num_q_heads;
    kv_head_ = head_ / (split_.num_q_heads / params.num_kv_heads);
    is_old_ = part_ == split_.num_parts();
#pragma unroll
    for (int kind = 0; kind < kDriftKinds; ++kind) {
      const bool sees = !is_old_ || static_cast<DriftKind>(kind) == DriftKind::kBefore;
      count_[kind] =
          sees ? drift_rows(params, layer_, group_, static_cast<DriftKind>(kind)).count : 0;
    }
  }

  __device__ __forceinline__ void run() {
    if (is_old_ && count_[static_cast<int>(DriftKind::kBefore)] == 0) return;
    const int all =
        is_old_ ? (split_.num_changed + kDriftKeys - 1) / kDriftKeys : split_.num_tiles();
    const int begin = is_old_ ? 0 : part_ * split_.tiles_of_part();
    const int end = is_old_ ? all : min(all, begin + split_.tiles_of_part());
    copy_queries<kHeadDim>(queries_, params_, layer_, group_, head_);
    copy_tile(begin, 0);
    for (int tile = begin; tile < end; ++tile) {
      copies_wait<0>();
      // The tile is there, and nobody reads the one before any more.
      __syncthreads();
      const int stage = (tile - begin) % 2;
      if (tile + 1 < end) copy_tile(tile + 1, 1 - stage);
      take(tile, keys_ + stage * Tile::kKeyValues);
    }
    __syncthreads();
    put();
  }

 private:
  __device__ __forceinline__ void copy_tile(int tile, int stage) {
#pragma unroll
    for (int first = 0; first < kDriftKeys; first += DriftKeys::kCount) {
      const int key = tile * kDriftKeys + first;
      const DriftKeys keys = is_old_ ? old_keys(params_, layer_, kv_head_, key)
                                     : canvas_keys(params_, layer_, kv_head_, key);
      copy_keys<kHeadDim>(keys_ + stage * Tile::kKeyValues + first * pitch(kHeadDim), keys,
                          params_.head_dim);
    }
    copies_commit();
  }

  __device__ __forceinline__ void take(int tile, const std::uint16_t* keys) {
    const int first = tile * kDriftKeys + static_cast<int>(threadIdx.x) / 32 * kDriftWarpKeys;
    const int end = (is_old_ ? split_.num_changed : split_.canvas) - first;
    if (end <= 0) return;
    DriftWarpKeys<Element, kHeadDim> right;
    right.load(keys);
#pragma unroll
    for (int kind = 0; kind < kDriftKinds; ++kind) {
      if (count_[kind] == 0) continue;
      float s[kDriftScores];
      right.score(s, queries_ + kind * kDriftRows * pitch(kHeadDim), params_.scale, end);
      if (static_cast<DriftKind>(kind) == DriftKind::kBefore) {
        if (is_old_) put_scores(s, first, end);
        if (!is_old_) hide_changed(s, first);
      }
      states_[kind].add(s);
    }
  }

  // Old queries see old keys in place of these.
  __device__ __forceinline__ void hide_changed(float (&s)[kDriftScores], int first) const {
    unsigned changed = 0;  // one bit for each key of this warp
    for (int i = static_cast<int>(threadIdx.x) % 32; i < split_.num_changed; i += 32) {
      const int key = params_.changed[i] - first;
      if (key >= 0 && key < kDriftWarpKeys) changed |= 1U << key;
    }
#pragma unroll
    for (int step = 1; step < 32; step *= 2) changed |= __shfl_xor_sync(0xffffffffU, changed, step);
    if (changed == 0) return;
#pragma unroll
    for (int i = 0; i < kDriftScores; ++i) {
      if ((changed >> DriftPlace::key(i) & 1U) != 0) s[i] = -INFINITY;
    }
  }

  __device__ __forceinline__ void put_scores(const float (&s)[kDriftScores], int first,
                                             int end) const {
    float* scores =
        params_.old_scores + split_.old_scores_at(layer_, head_, group_ * kDriftRows) + first;
    constexpr int kBefore = static_cast<int>(DriftKind::kBefore);
#pragma unroll
    for (int i = 0; i < kDriftScores; ++i) {
      const int row = DriftPlace::row(i / 2 % 2);
      const int key = DriftPlace::key(i);
      if (row < count_[kBefore] && key < end) {
        scores[std::int64_t{row} * split_.num_changed + key] = s[i];
      }
    }
  }

  // Joins the warps, where the keys were.
  __device__ __forceinline__ void put() {
    constexpr int kRows = kDriftKinds * kDriftRows;
    auto* of_warps = reinterpret_cast<DriftPart*>(keys_);  // [warps, rows]
    const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int kind = 0; kind < kDriftKinds; ++kind) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const DriftPart part = states_[kind].joined(half);
        const int row = kind * kDriftRows + DriftPlace::row(half);
        if (thread % 4 == 0) of_warps[thread / 32 * kRows + row] = part;
      }
    }
    __syncthreads();
    if (thread >= kRows) return;
    const int row = thread % kDriftRows;
    const DriftRows rows =
        drift_rows(params_, layer_, group_, static_cast<DriftKind>(thread / kDriftRows));
    if (row >= rows.count) return;
    DriftPart part = of_warps[thread];
    for (int warp = 1; warp < kDriftThreads / 32; ++warp) {
      part = merged(part, of_warps[warp * kRows + thread]);
    }
    params_.parts[split_.part_at(layer_, head_, part_) + rows.first + row] = part;
  }

  const DriftParams& params_;
  const DriftSplit& split_;
  std::uint16_t* keys_;     // shared, [2 stages, keys, pitch]
  std::uint16_t* queries_;  // shared, [kinds, rows, pitch]
  int layer_, head_, kv_head_, part_, group_;
  bool is_old_;
  int count_[kDriftKinds];  // rows
  DriftState states_[kDriftKinds];
};

template <class Element, int kHeadDim>
__global__ void __launch_bounds__(kDriftThreads, 2)
    drift_statistics(const __grid_constant__ DriftParams params) {
  // NOLINTNEXTLINE(readability-redundant-declaration): an emulated GPU has declared it
  extern __shared__ __align__(16) std::uint16_t shared_values[];
  let_next_launch_start();
  if (blockIdx.x == 0) {
    for (int i = static_cast<int>(threadIdx.x); i < params.split.num_layers; i += kDriftThreads) {
      params.counters[i] = 0;
    }
  }
  DriftStatistics<Element, kHeadDim>(params, shared_values).run();
}

}  // namespace perpend::device
