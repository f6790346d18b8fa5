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
    part_ = index % split_.num_parts();
    index /= split_.num_parts();
    head_ = index % split_.num_q_heads;
    layer_ = index / split_.num_q_heads;
    kv_head_ = head_ / (split_.num_q_heads / params.num_kv_heads);
    num_window_ = drift_rows(params, layer_, group_, DriftKind::kWindow).count;
    num_tracked_ = drift_rows(params, layer_, group_, DriftKind::kAfter).count;
    first_tile_ = part_ * split_.tiles_of_part();
    num_tiles_ = min(split_.tiles_of_part(), split_.num_tiles() - first_tile_);
  }

  __device__ __forceinline__ void run() {
    const bool is_last = part_ + 1 == split_.num_parts();
    const int count = num_tiles_ + (is_last && num_tracked_ > 0 ? split_.num_old_tiles() : 0);
    copy_step(0);
    copy_queries<kHeadDim>(queries_, params_, layer_, group_, head_);
    copies_commit();
    for (int step = 0; step < count; ++step) {
      copies_wait<0>();
      // The tile is there, and nobody reads the one before any more.
      __syncthreads();
      if (step + 1 < count) {
        copy_step(step + 1);
        copies_commit();
      }
      const std::uint16_t* keys = keys_ + step % 2 * Tile::kKeyValues;
      step < num_tiles_ ? take(first_tile_ + step, keys) : take_old(step - num_tiles_, keys);
    }
    __syncthreads();
    put();
  }

 private:
  // Tiles of the canvas, then those of the old keys.
  __device__ __forceinline__ void copy_step(int step) {
    std::uint16_t* to = keys_ + step % 2 * Tile::kKeyValues;
    const bool is_old = step >= num_tiles_;
    const int tile = is_old ? step - num_tiles_ : first_tile_ + step;
    copy_tile<kHeadDim>(to, params_.head_dim, [&](int first) {
      const int key = tile * kDriftKeys + first;
      return is_old ? old_keys(params_, layer_, kv_head_, key)
                    : canvas_keys(params_, layer_, kv_head_, key);
    });
  }

  // The first key of this warp.
  static __device__ __forceinline__ int first_key(int tile) {
    return tile * kDriftKeys + static_cast<int>(threadIdx.x) / 32 * kDriftWarpKeys;
  }

  __device__ __forceinline__ void take(int tile, const std::uint16_t* keys) {
    const int first = first_key(tile);
    if (first >= split_.canvas) return;
    DriftWarpKeys<Element, kHeadDim> right;
    right.load(keys);
    float s[kDriftKinds][kDriftScores];
    right.score(s, queries_, params_.scale, split_.canvas - first, num_window_ > 0,
                num_tracked_ > 0);
    if (num_window_ > 0) states_[0].add(s[0]);
    if (num_tracked_ == 0) return;
    states_[1].add(s[1]);
    hide_changed(s[2], first);
    states_[2].add(s[2]);
  }

  __device__ __forceinline__ void take_old(int tile, const std::uint16_t* keys) {
    const int first = first_key(tile);
    if (first >= split_.num_changed) return;
    DriftWarpKeys<Element, kHeadDim> right;
    right.load(keys);
    float s[kDriftKinds][kDriftScores];
    right.template score<2, 3>(s, queries_, params_.scale, split_.num_changed - first);
    put_scores(s[2], first);
    states_[2].add(s[2]);
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

  __device__ __forceinline__ void put_scores(const float (&s)[kDriftScores], int first) const {
    float* scores =
        params_.old_scores + split_.old_scores_at(layer_, head_, group_ * kDriftRows) + first;
#pragma unroll
    for (int i = 0; i < kDriftScores; ++i) {
      const int row = DriftPlace::row(i / 2 % 2);
      const int key = DriftPlace::key(i);
      if (row < num_tracked_ && first + key < split_.num_changed) {
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
  int num_window_, num_tracked_;  // rows
  int first_tile_, num_tiles_;    // of the canvas
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
