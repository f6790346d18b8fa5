#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/forward_params.h"
#include "perpend/kernels/cuda/device/softmax.cuh"

namespace perpend::device {

// An item as a kernel keeps it: where its rows are read and written.
struct Place {
  std::int32_t q_token;  // of its first query, in the batch
  std::int32_t q_size;
  std::int32_t q_head;
  std::int32_t batch;
  std::int32_t q_position;  // of its first query, as masks count
  bool is_packed;

  // A row of the tile: which query of the item and which head after q_head.
  struct Row {
    std::int32_t query;
    std::int32_t head;
    bool is_there;
  };
  __device__ __forceinline__ Row row(int tile_row, int group_size) const {
    if (!is_packed) return {tile_row, 0, tile_row < q_size};
    const int in_part = tile_row % kPartRows;
    const int queries = kPartRows / group_size;
    const int query = in_part / group_size;
    const int item_query = tile_row / kPartRows * queries + query;
    return {item_query, in_part % group_size, query < queries && item_query < q_size};
  }
};

__device__ __forceinline__ Place place_of(const Item& item, bool is_ragged) {
  return {item.q_begin + (is_ragged ? item.q_base : 0),
          item.q_size,
          item.q_head,
          is_ragged ? 0 : item.sequence,
          item.q_offset + item.q_begin,
          (item.kv_head_and_packing & 1) != 0};
}

// Four registers of four threads beside each other, transposed: thread t gets register t of all.
__device__ __forceinline__ uint4 transpose_quad(uint4 mine, int t) {
  const auto exchange = [t](std::uint32_t& even, std::uint32_t& odd, int step) {
    const bool is_odd = (t & step) != 0;
    const std::uint32_t other = __shfl_xor_sync(0xffffffffU, is_odd ? even : odd, step);
    even = is_odd ? other : even;
    odd = is_odd ? odd : other;
  };
  exchange(mine.x, mine.y, 1);
  exchange(mine.z, mine.w, 1);
  exchange(mine.x, mine.z, 2);
  exchange(mine.y, mine.w, 2);
  return mine;
}

// Where a row of values is written.
struct RowTarget {
  void* data;
  std::int64_t first;     // element
  std::int32_t head_dim;  // columns that are written
  bool is_there;
  bool is_f32;
  bool is_aligned;  // as Outputs::o_is_aligned
};

// Writes one of the two rows of a thread (kRow 0 or 1), of which the quad has all columns, times
// `factor`. The quad must come together.
template <class Element, int kRow, int kCount>
__device__ __forceinline__ void write_row(const float (&values)[kCount], float factor,
                                          const RowTarget& target) {
  constexpr int kHeadDim = 2 * kCount;
  const int t = static_cast<int>(threadIdx.x) % 4;
  if (target.is_f32) {
    float* to = static_cast<float*>(target.data) + target.first;
#pragma unroll
    for (int j = 2 * kRow; j < kCount; j += 4) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int column = j / 4 * 8 + 2 * t + i;
        if (target.is_there && column < target.head_dim) to[column] = values[j + i] * factor;
      }
    }
  } else if (!target.is_aligned) {
    auto* to = static_cast<std::uint16_t*>(target.data) + target.first;
#pragma unroll
    for (int j = 2 * kRow; j < kCount; j += 4) {
      const std::uint32_t pair = Element::pack(values[j] * factor, values[j + 1] * factor);
      const int column = j / 4 * 8 + 2 * t;
      if (!target.is_there) continue;
      if (column < target.head_dim) to[column] = static_cast<std::uint16_t>(pair);
      if (column + 1 < target.head_dim) to[column + 1] = static_cast<std::uint16_t>(pair >> 16);
    }
  } else {
    auto* to = static_cast<std::uint16_t*>(target.data) + target.first;
#pragma unroll
    for (int group = 0; group < kHeadDim / 32; ++group) {
      const auto pair = [&](int eight) {
        const int j = 4 * (4 * group + eight) + 2 * kRow;
        return Element::pack(values[j] * factor, values[j + 1] * factor);
      };
      const uint4 chunk = transpose_quad({pair(0), pair(1), pair(2), pair(3)}, t);
      const int column = 32 * group + 8 * t;
      if (target.is_there && column < target.head_dim) {
        *reinterpret_cast<uint4*>(to + column) = chunk;
      }
    }
  }
}

// What o is multiplied by, and lse, of a row whose sum is 0 when it has no live column.
__device__ __forceinline__ float inverse_of(float sum) { return sum == 0.0F ? 0.0F : 1.0F / sum; }
__device__ __forceinline__ float lse_of(float max, float sum, float factor) {
  const float lse = (max * factor + __log2f(sum)) * kLn2;
  return sum == 0.0F ? -INFINITY : lse;
}

// Where a row of the outputs lies.
__device__ __forceinline__ std::int64_t row_offset(const RowStrides& strides, const Place& place,
                                                   const Place::Row& row) {
  return place.batch * strides.batch + (place.q_token + row.query) * strides.token +
         (place.q_head + row.head) * strides.head;
}

// Writes o, divided by its sum, and lse of one of the two rows of a thread.
template <class Element, int kRow, int kCount>
__device__ __forceinline__ void store_row(const float (&o)[kCount], const RowState& rows,
                                          const Place& place, int tile_row, float factor,
                                          const ForwardParams& params) {
  const Outputs& out = params.outputs;
  const Place::Row row = place.row(tile_row, params.lists.group_size);
  const float sum = sum_of_row(rows.sum[kRow]);
  write_row<Element, kRow>(o, inverse_of(sum),
                           {out.o, row_offset(out.o_strides, place, row), out.head_dim,
                            row.is_there, out.o_is_f32, out.o_is_aligned});
  if (threadIdx.x % 4 == 0 && row.is_there && out.lse != nullptr) {
    out.lse[row_offset(out.lse_strides, place, row)] = lse_of(rows.max[kRow], sum, factor);
  }
}

}  // namespace perpend::device
