#pragma once

#include <cmath>
#include <cstdint>

#include "perpend/kernels/cuda/device/attention_drift_params.h"
#include "perpend/kernels/cuda/device/portable_tiles.cuh"
#include "perpend/kernels/cuda/device/ptx.cuh"

// Scores of rows and keys of one head by four warps: the keys of a tile and the queries of a group
// of rows come to shared memory; each warp keeps its 32 keys in registers, to multiply them with 16
// rows of each kind.

namespace perpend::device {

constexpr int kDriftScores = kDriftRows * kDriftWarpKeys / 32;  // that a lane has of 16 rows

// Where a score of a lane belongs.
struct DriftPlace {
  // The i-th of the 8 scores of one of the two rows of a lane.
  static __device__ __forceinline__ constexpr int index(int i, int half) {
    return i / 2 * 4 + 2 * half + i % 2;
  }
  static __device__ __forceinline__ int row(int half) {
    return static_cast<int>(threadIdx.x) % 32 / 4 + 8 * half;
  }
  static __device__ __forceinline__ int key(int index) {
    return index / 4 * 8 + static_cast<int>(threadIdx.x) % 4 * 2 + index % 2;
  }
};

__device__ __forceinline__ float sum_of_quad(float value) {
  value += __shfl_xor_sync(0xffffffffU, value, 1);
  return value + __shfl_xor_sync(0xffffffffU, value, 2);
}

enum class DriftKind { kWindow, kAfter, kBefore };
constexpr int kDriftKinds = 3;

// The rows of one kind of a group in a layer.
struct DriftRows {
  const std::uint16_t* queries;  // of the layer
  const std::int32_t* list;      // where each row stands; null: one after another
  std::int32_t count;
  std::int32_t first;  // of them in the order of all rows
};

__device__ __forceinline__ DriftRows drift_rows(const DriftParams& params, int layer, int group,
                                                DriftKind kind) {
  const DriftSplit& split = params.split;
  const std::int64_t row = std::int64_t{split.num_q_heads} * params.head_dim;
  const std::uint16_t* queries = params.queries + layer * split.canvas * row;
  const int first = group * kDriftRows;
  const bool is_window = kind == DriftKind::kWindow;
  const int all = is_window ? split.num_window : split.num_tracked;
  const int count = min(kDriftRows, all - first);
  if (count <= 0) return {};
  switch (kind) {
    case DriftKind::kWindow:
      return {queries, params.window + first, count, first};
    case DriftKind::kAfter:
      return {queries, params.tracked + first, count, split.num_window + first};
    default:
      return {params.old_queries + (std::int64_t{layer} * split.num_tracked + first) * row, nullptr,
              count, split.num_window + split.num_tracked + first};
  }
}

// Up to 64 keys of one head, which lie at equal distances.
struct DriftKeys {
  static constexpr int kCount = 64;

  const std::uint16_t* first;
  std::int64_t stride;
  std::int32_t count;  // that are there, may be negative
};

__device__ __forceinline__ DriftKeys canvas_keys(const DriftParams& params, int layer, int kv_head,
                                                 int first) {
  const int count = params.split.canvas - first;
  if (count <= 0) return {params.k_pages, 0, 0};
  const std::int64_t page = params.page_tables[layer * params.pages + first / params.page_size];
  return {params.k_pages + page * params.page_stride +
              first % params.page_size * params.row_stride + kv_head * params.head_stride,
          params.row_stride, count};
}

__device__ __forceinline__ DriftKeys old_keys(const DriftParams& params, int layer, int kv_head,
                                              int first) {
  const std::int64_t row = std::int64_t{layer} * params.split.num_changed + first;
  const int count = params.split.num_changed - first;
  if (count <= 0) return {params.k_pages, 0, 0};
  return {params.old_keys + (row * params.num_kv_heads + kv_head) * params.head_dim,
          std::int64_t{params.num_kv_heads} * params.head_dim, count};
}

// Starts copying; columns and keys that are not there become zeros.
template <int kHeadDim>
__device__ __forceinline__ void copy_keys(std::uint16_t* to, const DriftKeys& keys, int head_dim) {
  constexpr int kChunks = kHeadDim / 8;
  constexpr int kStep = kDriftThreads / kChunks;
  const int row = static_cast<int>(threadIdx.x) / kChunks;
  const int column = static_cast<int>(threadIdx.x) % kChunks * 8;
#pragma unroll
  for (int first = 0; first < DriftKeys::kCount; first += kStep) {
    const bool is_there = first + row < keys.count && column < head_dim;
    const std::uint16_t* from = keys.first + (first + row) * keys.stride + column;
    copy_chunk(to + (first + row) * pitch(kHeadDim) + column, is_there ? from : keys.first,
               is_there);
  }
}

// The same of the queries of a group of rows, 16 of each kind.
template <int kHeadDim>
__device__ __forceinline__ void copy_queries(std::uint16_t* to, const DriftParams& params,
                                             int layer, int group, int head) {
  constexpr int kChunks = kHeadDim / 8;
#pragma unroll
  for (int kind = 0; kind < kDriftKinds; ++kind) {
    const DriftRows rows = drift_rows(params, layer, group, static_cast<DriftKind>(kind));
    if (rows.count == 0) continue;
    for (int i = static_cast<int>(threadIdx.x); i < kDriftRows * kChunks; i += kDriftThreads) {
      const int row = i / kChunks;
      const int column = i % kChunks * 8;
      const bool is_there = row < rows.count && column < params.head_dim;
      const std::uint16_t* from = rows.queries;
      if (is_there) {
        const std::int64_t place = rows.list != nullptr ? rows.list[row] : row;
        from += (place * params.split.num_q_heads + head) * params.head_dim + column;
      }
      copy_chunk(to + (kind * kDriftRows + row) * pitch(kHeadDim) + column, from, is_there);
    }
  }
}

// The 32 keys of this warp in registers.
template <class Element, int kHeadDim>
class DriftWarpKeys {
 public:
  // From the keys of the tile in shared memory.
  __device__ __forceinline__ void load(const std::uint16_t* tile) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int row = warp * kDriftWarpKeys + lane / 16 * 8 + lane % 8;
    const std::uint16_t* from = tile + row * pitch(kHeadDim) + lane / 8 % 2 * 8;
#pragma unroll
    for (int d = 0; d < kHeadDim; d += 16) {
#pragma unroll
      for (int n = 0; n < kDriftWarpKeys; n += 16) {
        load_matrices(right_[d / 16][n / 16], from + n * pitch(kHeadDim) + d);
      }
    }
  }

  // Of 16 rows of queries in shared memory; -inf of keys from `end` on.
  __device__ __forceinline__ void score(float (&s)[kDriftScores], const std::uint16_t* queries,
                                        float scale, int end) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const std::uint16_t* row = queries + lane % 16 * pitch(kHeadDim) + lane / 16 * 8;
#pragma unroll
    for (int i = 0; i < kDriftScores; ++i) s[i] = 0.0F;
#pragma unroll
    for (int d = 0; d < kHeadDim; d += 16) {
      std::uint32_t left[4];
      load_matrices(left, row + d);
#pragma unroll
      for (int n = 0; n < kDriftWarpKeys; n += 16) {
        const std::uint32_t(&right)[4] = right_[d / 16][n / 16];
        Mma<Element>::add(s + n / 2, left, right[0], right[1]);
        Mma<Element>::add(s + n / 2 + 4, left, right[2], right[3]);
      }
    }
#pragma unroll
    for (int i = 0; i < kDriftScores; ++i) {
      s[i] = DriftPlace::key(i) < end ? s[i] * scale : -INFINITY;
    }
  }

 private:
  std::uint32_t right_[kHeadDim / 16][kDriftWarpKeys / 16][4];
};

// Values of a tile of keys and of the queries of a group in shared memory.
template <int kHeadDim>
struct DriftTile {
  static constexpr int kKeyValues = kDriftKeys * pitch(kHeadDim);
  static constexpr int kQueryValues = kDriftKinds * kDriftRows * pitch(kHeadDim);
};

}  // namespace perpend::device
