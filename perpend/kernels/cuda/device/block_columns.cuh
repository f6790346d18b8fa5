#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/block_columns.h"
#include "perpend/kernels/cuda/device/block_lists.cuh"

// From lists of key blocks to the steps and items of the column pass: lists are turned over without
// sorting, by a table of all tiles and query blocks, a byte each. Scores by which lists are chosen
// are at least four times as many bytes.

namespace perpend::device {

// A CTA's share of the table: some query blocks of a head, all tiles. Shared memory:
// words_per_list() words for each of its lists.
class ColumnMarker {
 public:
  __device__ __forceinline__ ColumnMarker(const BlockColumnParams& params, std::int32_t cta,
                                          std::int32_t num_warps, std::uint32_t* words)
      : params_(params),
        c_(params.columns),
        list_row_(cta / c_.ctas_per_row()),
        first_(cta % c_.ctas_per_row() * c_.lists_per_cta),
        num_warps_(num_warps),
        words_(words) {}

  __device__ __forceinline__ void run() const {
    const std::int32_t list_heads = params_.geometry.num_list_heads;
    const auto thread = static_cast<std::int32_t>(threadIdx.x);
    for (std::int32_t list = thread / 32; list < c_.lists_per_cta; list += num_warps_) {
      mark_blocks(params_.geometry, params_.lists,
                  {list_row_ / list_heads, list_row_ % list_heads, first_ + list},
                  {c_.pieces_per_block, c_.num_pieces}, words_ + list * c_.words_per_list(),
                  c_.words_per_list());
    }
    __syncthreads();
    std::uint8_t* to =
        params_.pieces + std::int64_t{list_row_} * c_.num_tiles * c_.q_pitch + first_;
    for (std::int32_t i = thread; i < c_.num_tiles * c_.lists_per_cta; i += 32 * num_warps_) {
      const std::int32_t list = i % c_.lists_per_cta;
      const std::int32_t tile = i / c_.lists_per_cta;
      const std::int32_t piece = tile * c_.pieces_per_tile;
      const std::uint32_t word = words_[list * c_.words_per_list() + piece / 32];
      const std::uint32_t pieces = word >> piece % 32 & ((1U << c_.pieces_per_tile) - 1);
      to[std::int64_t{tile} * c_.q_pitch + list] = static_cast<std::uint8_t>(pieces);
    }
  }

 private:
  const BlockColumnParams& params_;
  const ColumnGeometry& c_;
  std::int32_t list_row_;  // batch and head of the lists
  std::int32_t first_;     // query block
  std::int32_t num_warps_;
  std::uint32_t* words_;
};

// What a warp does for one column. A lane takes 16 query blocks at a time.
class ColumnPlanner {
 public:
  __device__ __forceinline__ ColumnPlanner(const BlockColumnParams& params, std::int32_t column)
      : params_(params),
        g_(params.geometry),
        c_(params.columns),
        column_(column),
        batch_(column / c_.columns_per_batch),
        first_list_(column % c_.columns_per_batch / c_.num_tiles * c_.lists_per_column),
        tile_(column % c_.num_tiles),
        missing_(c_.missing_pieces(tile_)),
        lane_(static_cast<int>(threadIdx.x) % 32) {}

  __device__ __forceinline__ void run() const {
    StepCounts all{0, 0};
    for (int list = 0; list < c_.lists_per_column; ++list) {
      for (std::int32_t first = 0; first < c_.q_pitch; first += kChunk) {
        const StepCounts own = count(list, first);
        all.num_partial += own.num_partial;
        all.num_full += own.num_full;
      }
    }
    for (int step = 16; step > 0; step /= 2) {
      all.num_partial += __shfl_xor_sync(kAllLanes, all.num_partial, step);
      all.num_full += __shfl_xor_sync(kAllLanes, all.num_full, step);
    }
    // Of a head: if heads share a list, it is the only one.
    const std::int32_t num_partial = all.num_partial * c_.heads_per_list;
    const std::int32_t num_steps = num_partial + all.num_full * c_.heads_per_list;
    std::int32_t begin = 0;
    // Columns may stand in any order: where they begin changes nothing.
    if (lane_ == 0) begin = atomicAdd(params_.next_step, num_steps);
    begin = __shfl_sync(kAllLanes, begin, 0);
    Places places{begin, begin + num_partial};
    for (int list = 0; list < c_.lists_per_column; ++list) {
      for (std::int32_t first = 0; first < c_.q_pitch; first += kChunk) {
        write(list, first, all, places);
      }
    }
    if (lane_ == 0) finish({begin, num_partial, num_steps - num_partial});
  }

 private:
  static constexpr unsigned kAllLanes = 0xffffffffU;
  static constexpr std::int32_t kOfLane = 16;
  static constexpr std::int32_t kChunk = 32 * kOfLane;

  // Where the next steps go.
  struct Places {
    std::int32_t partial;
    std::int32_t full;
  };

  // 0: there is no such step.
  __device__ __forceinline__ std::uint32_t flags_of(std::int32_t q_block, std::int32_t step,
                                                    std::uint32_t pieces) const {
    const std::int32_t query = q_block * g_.q_block + step * kGradientQueries;
    if (query >= g_.q_len) return 0;
    std::int32_t distance = ColumnGeometry::kBehindCuts;
    if (g_.causal) distance = g_.q_offset + query - tile_ * kTileRows;
    if (distance < ColumnGeometry::kFirstCut) return 0;
    const bool is_short = c_.short_queries > 0 && step + 1 == c_.steps_per_block;
    const std::uint32_t flags =
        params_.flags[c_.flags_index(is_short, distance, pieces | missing_)];
    const bool has_one_part = (tile_ + 1) * kTileRows - g_.kv_len >= kPartRows;
    return has_one_part ? flags & ~2U : flags;
  }

  // body(first query, flags) for the steps of this lane's query blocks.
  template <class Body>
  __device__ __forceinline__ void for_each_step(int list, std::int32_t first, Body body) const {
    const std::int32_t lanes_first = first + lane_ * kOfLane;
    if (lanes_first >= c_.q_pitch) return;
    const std::int64_t row = std::int64_t{batch_} * g_.num_list_heads + first_list_ + list;
    const auto* words = reinterpret_cast<const std::uint32_t*>(
        params_.pieces + (row * c_.num_tiles + tile_) * c_.q_pitch + lanes_first);
#pragma unroll 1
    for (int w = 0; w < kOfLane / 4; ++w) {
      for (std::uint32_t word = words[w]; word != 0;) {
        const int byte = (__ffs(static_cast<int>(word)) - 1) / 8;
        const std::uint32_t pieces = word >> 8 * byte & 0xffU;
        word &= ~(0xffU << 8 * byte);
        const std::int32_t q_block = lanes_first + 4 * w + byte;
        for (std::int32_t step = 0; step < c_.steps_per_block; ++step) {
          const std::uint32_t flags = flags_of(q_block, step, pieces);
          if ((flags & Step::kBothParts) == 0) continue;
          body(q_block * g_.q_block + step * kGradientQueries, flags);
        }
      }
    }
  }

  __device__ __forceinline__ StepCounts count(int list, std::int32_t first) const {
    StepCounts own{0, 0};
    for_each_step(list, first, [&](std::int32_t /*query*/, std::uint32_t flags) {
      ++((flags & Step::kHasBitmap) != 0 ? own.num_partial : own.num_full);
    });
    return own;
  }

  // The values of this lane and those before.
  __device__ __forceinline__ std::int32_t up_to_here(std::int32_t value) const {
    for (int step = 1; step < 32; step *= 2) {
      const std::int32_t other = __shfl_up_sync(kAllLanes, value, step);
      if (lane_ >= step) value += other;
    }
    return value;
  }

  // Of all heads that have the list, one after another; `of_head`: steps of each.
  __device__ __forceinline__ void write(int list, std::int32_t first, StepCounts of_head,
                                        Places& places) const {
    const StepCounts own = count(list, first);
    const std::int32_t partial = up_to_here(own.num_partial);
    const std::int32_t full = up_to_here(own.num_full);
    for (std::int32_t i = 0; i < c_.heads_per_list; ++i) {
      const std::int32_t head = list * c_.heads_per_list + i;
      Places to{places.partial + i * of_head.num_partial + partial - own.num_partial,
                places.full + i * of_head.num_full + full - own.num_full};
      for_each_step(list, first, [&](std::int32_t query, std::uint32_t flags) {
        std::int32_t& place = (flags & Step::kHasBitmap) != 0 ? to.partial : to.full;
        params_.steps[place++] = {{query, flags}, head, 0};
      });
    }
    places.partial += __shfl_sync(kAllLanes, partial, 31);
    places.full += __shfl_sync(kAllLanes, full, 31);
  }

  __device__ __forceinline__ void finish(ColumnList found) const {
    params_.of_columns[column_] = found;
    const std::int32_t kv_head =
        column_ % c_.columns_per_batch / c_.num_tiles * c_.items_per_column;
    const auto bucket = static_cast<std::uint8_t>(order_bucket(found.num_partial + found.num_full));
    for (std::int32_t i = 0; i < c_.items_per_column; ++i) {
      const std::int32_t head = batch_ * g_.num_kv_heads + kv_head + i;
      params_.buckets[head * c_.num_tiles + tile_] = bucket;
    }
  }

  const BlockColumnParams& params_;
  const BlockGeometry& g_;
  const ColumnGeometry& c_;
  std::int32_t column_;
  std::int32_t batch_;
  std::int32_t first_list_;  // head of the lists
  std::int32_t tile_;
  std::uint32_t missing_;
  int lane_;
};

// An item to its place in the order.
__device__ __forceinline__ void write_column_item(const BlockColumnParams& params,
                                                  std::int32_t index, std::int32_t to) {
  const BlockGeometry& g = params.geometry;
  const ColumnGeometry& c = params.columns;
  const std::int32_t tile = index % c.num_tiles;
  const std::int32_t head = index / c.num_tiles % g.num_kv_heads;
  const std::int32_t batch = index / c.num_tiles / g.num_kv_heads;
  const std::int32_t column =
      batch * c.columns_per_batch + head / c.items_per_column * c.num_tiles + tile;
  const ColumnList list = params.of_columns[column];
  const std::int32_t key = tile * kTileRows;
  params.items[to] = {key,
                      min(kTileRows, g.kv_len - key),
                      head,
                      batch,
                      list.begin,
                      list.num_partial,
                      list.num_full,
                      batch * g.q_len,
                      batch * g.kv_len,
                      g.q_offset,
                      g.q_len,
                      0};
}

}  // namespace perpend::device
