#pragma once

#include "perpend/kernels/cuda/device/attention_drift_statistics.cuh"

// The second kernel of attention_drift.cuh.

namespace perpend::device {

// One CTA for each (layer, some query heads, tile of the keys, group of rows), from the last to the
// first: what the first kernel has read last may still be in the cache.
template <class Element, int kHeadDim>
class DriftWeights {
  using Tile = DriftTile<kHeadDim>;
  static constexpr int kRows = kDriftKinds * kDriftRows;
  static constexpr int kStage = Tile::kKeyValues + Tile::kQueryValues;

 public:
  static constexpr int kSharedBytes = 2 * 2 * kStage + 4 * (kDriftHeads * kRows + kDriftKeys);

  __device__ __forceinline__ DriftWeights(const DriftParams& params, std::uint16_t* shared)
      : params_(params),
        split_(params.split),
        stages_(shared),
        lse_(reinterpret_cast<float*>(shared + 2 * kStage)),
        changes_(reinterpret_cast<std::int32_t*>(lse_ + kDriftHeads * kRows)) {
    int index = static_cast<int>(gridDim.x - 1 - blockIdx.x);
    group_ = index % split_.num_groups();
    index /= split_.num_groups();
    tile_ = index % split_.num_tiles();
    index /= split_.num_tiles();
    head_group_ = index % split_.num_head_groups();
    layer_ = index / split_.num_head_groups();
    num_window_ = drift_rows(params, layer_, group_, DriftKind::kWindow).count;
    num_tracked_ = drift_rows(params, layer_, group_, DriftKind::kAfter).count;
    end_ = split_.canvas - tile_ * kDriftKeys - static_cast<int>(threadIdx.x) / 32 * kDriftWarpKeys;
  }

  __device__ __forceinline__ void run() {
    const int first = head_group_ * kDriftHeads;
    const int count = min(kDriftHeads, split_.num_q_heads - first);
    copy_head(first, 0);
    find_changes();
    // What is copied was there before the launch before.
    wait_for_launch_before();
    join_parts(first, count);
    for (int i = 0; i < count; ++i) {
      copies_wait<0>();
      // The tile is there, and nobody reads the one before any more.
      __syncthreads();
      if (i + 1 < count) copy_head(first + i + 1, (i + 1) % 2);
      if (end_ > 0) take(first + i, stages_ + i % 2 * kStage, lse_ + i * kRows);
    }
    if (end_ <= 0) return;
    if (num_window_ > 0) put_weights();
    if (num_tracked_ > 0 && !split_.by_keys) put_sums();
  }

 private:
  __device__ __forceinline__ void copy_head(int head, int stage) {
    std::uint16_t* to = stages_ + stage * kStage;
    const int kv_head = head / (split_.num_q_heads / params_.num_kv_heads);
#pragma unroll
    for (int first = 0; first < kDriftKeys; first += DriftKeys::kCount) {
      copy_keys<kHeadDim>(to + first * pitch(kHeadDim),
                          canvas_keys(params_, layer_, kv_head, tile_ * kDriftKeys + first),
                          params_.head_dim);
    }
    copy_queries<kHeadDim>(to + Tile::kKeyValues, params_, layer_, group_, head);
    copies_commit();
  }

  // Which old key each key of the tile had, -1: none.
  __device__ __forceinline__ void find_changes() {
    const int thread = static_cast<int>(threadIdx.x);
    changes_[thread] = -1;
    __syncthreads();
    for (int i = thread; i < split_.num_changed; i += kDriftThreads) {
      const int key = params_.changed[i] - tile_ * kDriftKeys;
      if (key >= 0 && key < kDriftKeys) changes_[key] = i;
    }
  }

  // Of each row and head the logarithm of its sum, infinity of rows that are not there, whose
  // weights are 0.
  __device__ __forceinline__ void join_parts(int first_head, int count) {
    for (int i = static_cast<int>(threadIdx.x); i < count * kRows; i += kDriftThreads) {
      const auto kind = static_cast<DriftKind>(i % kRows / kDriftRows);
      const DriftRows rows = drift_rows(params_, layer_, group_, kind);
      const int row = i % kDriftRows;
      if (row >= rows.count) {
        lse_[i] = INFINITY;
        continue;
      }
      const int parts = kind == DriftKind::kBefore ? split_.num_all_parts() : split_.num_parts();
      DriftPart all{-INFINITY, 0.0F};
      for (int part = 0; part < parts; ++part) {
        const std::int64_t at = split_.part_at(layer_, first_head + i / kRows, part);
        all = merged(all, params_.parts[at + rows.first + row]);
      }
      lse_[i] = all.max + log2f(all.sum);
    }
  }

  __device__ __forceinline__ void take(int head, const std::uint16_t* stage, const float* lse) {
    DriftWarpKeys<Element, kHeadDim> right;
    right.load(stage);
    const std::uint16_t* queries = stage + Tile::kKeyValues;
    if (num_window_ > 0) {
      float weights[kDriftScores];
      right.score(weights, queries, params_.scale, end_);
      weigh(weights, lse);
#pragma unroll
      for (int i = 0; i < kDriftScores / 2; ++i) {
        weights_[i] += weights[DriftPlace::index(i, 0)] + weights[DriftPlace::index(i, 1)];
      }
    }
    if (num_tracked_ == 0) return;
    float after[kDriftScores];
    right.score(after, queries + kDriftRows * pitch(kHeadDim), params_.scale, end_);
    weigh(after, lse + kDriftRows);
    float before[kDriftScores];
    right.score(before, queries + 2 * kDriftRows * pitch(kHeadDim), params_.scale, end_);
    take_old_scores(before, head);
    weigh(before, lse + 2 * kDriftRows);
    if (split_.by_keys) {
      put_products(before, after, head);
      return;
    }
#pragma unroll
    for (int i = 0; i < kDriftScores; ++i) {
      sums_[0][i] += before[i] * after[i];
      sums_[1][i] += before[i] * before[i];
      sums_[2][i] += after[i] * after[i];
    }
  }

  static __device__ __forceinline__ void weigh(float (&s)[kDriftScores], const float* lse) {
    const float of_row[2] = {lse[DriftPlace::row(0)], lse[DriftPlace::row(1)]};
#pragma unroll
    for (int i = 0; i < kDriftScores; ++i) s[i] = exp2_approx(s[i] - of_row[i / 2 % 2]);
  }

  __device__ __forceinline__ void take_old_scores(float (&s)[kDriftScores], int head) const {
    const std::int32_t* changes = changes_ + static_cast<int>(threadIdx.x) / 32 * kDriftWarpKeys;
    const float* scores =
        params_.old_scores + split_.old_scores_at(layer_, head, group_ * kDriftRows);
#pragma unroll
    for (int i = 0; i < kDriftScores; ++i) {
      const int change = changes[DriftPlace::key(i)];
      const int row = DriftPlace::row(i / 2 % 2);
      if (change >= 0 && row < num_tracked_) {
        s[i] = scores[std::int64_t{row} * split_.num_changed + change];
      }
    }
  }

  // Of each row the three sums over these keys.
  __device__ __forceinline__ void put_products(const float (&before)[kDriftScores],
                                               const float (&after)[kDriftScores], int head) {
    const int part = (tile_ * kDriftThreads + static_cast<int>(threadIdx.x)) / 32;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sums[3] = {0.0F, 0.0F, 0.0F};
#pragma unroll
      for (int i = 0; i < kDriftScores / 2; ++i) {
        const float a = before[DriftPlace::index(i, half)];
        const float b = after[DriftPlace::index(i, half)];
        sums[0] += a * b;
        sums[1] += a * a;
        sums[2] += b * b;
      }
      const int row = DriftPlace::row(half);
      float* to = params_.products + 3 * part +
                  split_.products_by_keys_at(layer_, group_ * kDriftRows + row, head);
#pragma unroll
      for (int i = 0; i < 3; ++i) {
        const float sum = sum_of_quad(sums[i]);
        if (threadIdx.x % 4 == 0 && row < num_tracked_) to[i] = sum;
      }
    }
  }

  __device__ __forceinline__ void put_weights() const {
    float* to = params_.weight_sums + split_.weight_sums_at(layer_, group_, head_group_) +
                split_.canvas - end_;
#pragma unroll
    for (int i = 0; i < kDriftScores / 2; ++i) {
      float sum = weights_[i];
#pragma unroll
      for (int step = 4; step < 32; step *= 2) sum += __shfl_xor_sync(0xffffffffU, sum, step);
      const int key = DriftPlace::key(DriftPlace::index(i, 0));
      if (threadIdx.x % 32 < 4 && key < end_) to[key] = sum;
    }
  }

  __device__ __forceinline__ void put_sums() const {
    const std::int64_t keys = split_.tile_keys();
#pragma unroll
    for (int i = 0; i < kDriftScores; i += 2) {
      const int row = DriftPlace::row(i / 2 % 2);
      if (row >= num_tracked_) continue;
      float* to = params_.products + split_.canvas - end_ + DriftPlace::key(i) +
                  split_.products_at(layer_, head_group_, group_ * kDriftRows + row);
#pragma unroll
      for (int sum = 0; sum < 3; ++sum) {
        *reinterpret_cast<float2*>(to + sum * keys) = {sums_[sum][i], sums_[sum][i + 1]};
      }
    }
  }

  const DriftParams& params_;
  const DriftSplit& split_;
  std::uint16_t* stages_;  // shared, [2 stages, keys then queries, pitch]
  float* lse_;             // shared, [heads, kinds, rows]
  std::int32_t* changes_;  // shared, [keys]
  int layer_, head_group_, tile_, group_;
  int num_window_, num_tracked_;  // rows
  int end_;                       // of this warp's keys
  // Over heads, of window rows also over rows.
  float weights_[kDriftScores / 2] = {};
  float sums_[3][kDriftScores] = {};
};

template <class Element, int kHeadDim>
__global__ void __launch_bounds__(kDriftThreads, 2)
    drift_weights(const __grid_constant__ DriftParams params) {
  // NOLINTNEXTLINE(readability-redundant-declaration): an emulated GPU has declared it
  extern __shared__ __align__(16) std::uint16_t shared_values[];
  let_next_launch_start();
  DriftWeights<Element, kHeadDim>(params, shared_values).run();
}

}  // namespace perpend::device
