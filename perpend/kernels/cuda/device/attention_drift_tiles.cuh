#pragma once

#include <cmath>
#include <cstdint>

#include "perpend/kernels/cuda/device/attention_drift_params.h"
#include "perpend/kernels/cuda/device/portable_tiles.cuh"

namespace perpend::device {

// Where a value of a warp's 16 x 64 scores belongs, of the 32 that each lane has.
struct DriftPlace {
  // The i-th of the 16 values of one of the two rows of a lane.
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

__device__ __forceinline__ float cosine(float both, float before, float after) {
  const float norms = sqrtf(before) * sqrtf(after);
  return norms > 0.0F ? both / norms : 1.0F;
}

__device__ __forceinline__ constexpr int num_tiles(int rows) {
  return (rows + kDriftRows - 1) / kDriftRows;
}

enum class DriftKind { kWindow, kAfter, kBefore };

// Queries of one kind in a layer.
struct DriftRows {
  const std::uint16_t* queries;  // of the layer
  const std::int32_t* list;      // where each row stands; null: one after another
  std::int32_t count;
  std::int32_t first;  // of them in the order of all rows
  bool sees_old_keys;
};

__device__ __forceinline__ DriftRows drift_rows(const DriftParams& params, int layer,
                                                DriftKind kind) {
  const std::int64_t row = std::int64_t{params.num_q_heads} * params.head_dim;
  const std::uint16_t* queries = params.queries + layer * params.canvas * row;
  switch (kind) {
    case DriftKind::kWindow:
      return {queries, params.window, params.num_window, 0, false};
    case DriftKind::kAfter:
      return {queries, params.tracked, params.num_tracked, params.num_window, false};
    default:
      return {params.old_queries + layer * params.num_tracked * row, nullptr, params.num_tracked,
              params.num_window + params.num_tracked, true};
  }
}

// 64 keys of a layer, as they are and as they were, one head after another: while a head is
// multiplied, the next is on its way.
template <class Element, int kHeadDim>
class DriftTiles {
 public:
  static constexpr int kTileValues = kDriftKeys * pitch(kHeadDim);
  static constexpr int kValues = 4 * kTileValues;

  __device__ __forceinline__ DriftTiles(const DriftParams& params, int layer, int part,
                                        std::uint16_t* shared)
      : params_(params), layer_(layer), first_key_(part * kDriftKeys), shared_(shared) {
    const int page = params.page_tables[layer * params.pages + first_key_ / params.page_size];
    keys_ = params.k_pages + page * params.page_stride +
            first_key_ % params.page_size * params.row_stride;
  }

  // Calls take(kv_head) for each head of [begin, end), whose keys multiply() then reads.
  template <class Take>
  __device__ __forceinline__ void run(int begin, int end, Take take) {
    stage_ = 0;
    load(begin);
    for (int kv_head = begin; kv_head < end; ++kv_head) {
      copies_wait<0>();
      // The keys are there, and nobody reads those of the head before any more.
      __syncthreads();
      stage_ ^= 1;
      if (kv_head + 1 < end) load(kv_head + 1);
      take(kv_head);
    }
    __syncthreads();
  }

  // Scores of 16 rows for one of their heads, -inf of keys behind the canvas.
  __device__ __forceinline__ void multiply(float (&s)[kDriftKeys / 2], const DriftRows& rows,
                                           int head, int tile) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const std::uint16_t* query[2] = {query_of(rows, head, tile, 0), query_of(rows, head, tile, 1)};
    const std::uint16_t* keys =
        shared_ + ((stage_ ^ 1) * 2 + (rows.sees_old_keys ? 1 : 0)) * kTileValues;
    const std::uint16_t* key_row =
        keys + (lane / 16 * 8 + lane % 8) * pitch(kHeadDim) + lane / 8 % 2 * 8;
#pragma unroll
    for (int i = 0; i < kDriftKeys / 2; ++i) s[i] = 0.0F;
#pragma unroll
    for (int d = 0; d < kHeadDim; d += 16) {
      std::uint32_t left[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) left[i] = two_values(query[i % 2], d + i / 2 * 8 + lane % 4 * 2);
#pragma unroll
      for (int n = 0; n < kDriftKeys; n += 16) {
        std::uint32_t right[4];
        load_matrices(right, key_row + n * pitch(kHeadDim) + d);
        Mma<Element>::add(s + n / 2, left, right[0], right[1]);
        Mma<Element>::add(s + n / 2 + 4, left, right[2], right[3]);
      }
    }
#pragma unroll
    for (int i = 0; i < kDriftKeys / 2; ++i) {
      const bool is_there = first_key_ + DriftPlace::key(i) < params_.canvas;
      s[i] = is_there ? s[i] * params_.scale : -INFINITY;
    }
  }

 private:
  // null for a row that is not there.
  __device__ __forceinline__ const std::uint16_t* query_of(const DriftRows& rows, int head,
                                                           int tile, int half) const {
    const int row = tile * kDriftRows + DriftPlace::row(half);
    if (row >= rows.count) return nullptr;
    const int place = rows.list != nullptr ? rows.list[row] : row;
    return rows.queries + (std::int64_t{place} * params_.num_q_heads + head) * params_.head_dim;
  }

  __device__ __forceinline__ std::uint32_t two_values(const std::uint16_t* query,
                                                      int column) const {
    if (query == nullptr || column >= params_.head_dim) return 0;
    return *reinterpret_cast<const std::uint32_t*>(query + column);
  }

  // Starts copying the keys of a head to the stage that is free.
  __device__ __forceinline__ void load(int kv_head) {
    constexpr int kChunks = kHeadDim / 8;
    std::uint16_t* now = shared_ + stage_ * 2 * kTileValues;
    std::uint16_t* before = now + kTileValues;
    for (int i = static_cast<int>(threadIdx.x); i < kDriftKeys * kChunks; i += kDriftThreads) {
      const int row = i / kChunks;
      const int column = i % kChunks * 8;
      const int key = first_key_ + row;
      const bool is_there = key < params_.canvas && column < params_.head_dim;
      const std::uint16_t* from =
          keys_ + row * params_.row_stride + kv_head * params_.head_stride + column;
      const int offset = row * pitch(kHeadDim) + column;
      copy_chunk(now + offset, is_there ? from : keys_, is_there);
      if (params_.num_tracked == 0) continue;
      const int change = is_there ? params_.changed[key] : -1;
      if (change >= 0) {
        from = params_.old_keys +
               ((std::int64_t{layer_} * params_.num_changed + change) * params_.num_kv_heads +
                kv_head) *
                   params_.head_dim +
               column;
      }
      copy_chunk(before + offset, is_there ? from : keys_, is_there);
    }
    copies_commit();
  }

  const DriftParams& params_;
  int layer_;
  int first_key_;
  std::uint16_t* shared_;  // [2 stages, now and before, keys, pitch]
  const std::uint16_t* keys_;
  int stage_ = 0;  // that is filled next
};

}  // namespace perpend::device
