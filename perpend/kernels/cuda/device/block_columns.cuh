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
    Places all{0, 0, 0};
    for (int list = 0; list < c_.lists_per_column; ++list) all.pass(count(list), c_);
    // Columns may stand in any order: where they begin changes nothing.
    std::int32_t begin = 0;
    std::int32_t boxes = 0;
    if (lane_ == 0) {
      begin = atomicAdd(params_.next_step, all.partial + all.full);
      if (c_.boxes_per_step > 1) boxes = atomicAdd(params_.next_box, all.box);
    }
    begin = __shfl_sync(kAllLanes, begin, 0);
    boxes = __shfl_sync(kAllLanes, boxes, 0);
    Places places{begin, begin + all.partial, boxes};
    for (int list = 0; list < c_.lists_per_column; ++list) {
      const Found found = count(list);
      write(list, found, places);
      places.pass(found, c_);
    }
    if (lane_ == 0) finish({begin, all.partial, all.full});
  }

 private:
  static constexpr unsigned kAllLanes = 0xffffffffU;
  static constexpr std::int32_t kOfLane = 16;
  static constexpr std::int32_t kChunk = 32 * kOfLane;
  static constexpr std::int32_t kClasses = ColumnGeometry::kClasses;

  // How often there is what of a list: steps of their own, and query blocks that are gathered, by
  // the pieces that they see.
  struct Found {
    std::int32_t partial = 0;
    std::int32_t full = 0;
    std::int32_t gathered[kClasses] = {};

    __device__ __forceinline__ std::int32_t boxes() const {
      return gathered[0] + gathered[1] + gathered[2];
    }
    // Steps of a head. Of gathered ones those are full that have all boxes and see all pieces.
    __device__ __forceinline__ std::int32_t full_steps(std::int32_t boxes_per_step) const {
      return full + gathered[kClasses - 1] / boxes_per_step;
    }
    __device__ __forceinline__ std::int32_t partial_steps(std::int32_t boxes_per_step) const {
      const bool has_rest = gathered[kClasses - 1] % boxes_per_step != 0;
      return partial + gathered_before(kClasses - 1, boxes_per_step) + (has_rest ? 1 : 0);
    }
    // Gathered steps of the classes before.
    __device__ __forceinline__ std::int32_t gathered_before(int of_class,
                                                            std::int32_t boxes_per_step) const {
      std::int32_t steps = 0;
      for (int c = 0; c < of_class; ++c) {
        steps += (gathered[c] + boxes_per_step - 1) / boxes_per_step;
      }
      return steps;
    }
  };

  // Where the next steps and boxes go.
  struct Places {
    std::int32_t partial;
    std::int32_t full;
    std::int32_t box;

    __device__ __forceinline__ void pass(const Found& found, const ColumnGeometry& c) {
      partial += c.heads_per_list * found.partial_steps(c.boxes_per_step);
      full += c.heads_per_list * found.full_steps(c.boxes_per_step);
      box += found.boxes();
    }
  };

  // A step of one query block, or, gathered, the block: what it sees.
  struct ColumnStep {
    std::int32_t query;
    std::uint32_t flags;  // without a part: it sees nothing
    std::uint32_t gathered_pieces;
  };

  __device__ __forceinline__ std::uint32_t flags_at(std::int32_t index) const {
    const std::uint32_t flags = params_.flags[index];
    const bool has_one_part = (tile_ + 1) * kTileRows - g_.kv_len >= kPartRows;
    return has_one_part ? flags & ~2U : flags;
  }

  __device__ __forceinline__ ColumnStep step_of(std::int32_t q_block, std::int32_t step,
                                                std::uint32_t pieces) const {
    const std::int32_t query = q_block * g_.q_block + step * kGradientQueries;
    if (query >= g_.q_len) return {query, 0, 0};
    std::int32_t distance = ColumnGeometry::kBehindCuts;
    if (g_.causal) distance = g_.q_offset + query - tile_ * kTileRows;
    if (distance < ColumnGeometry::kFirstCut) return {query, 0, 0};
    if (c_.boxes_per_step > 1 && distance >= ColumnGeometry::kBehindCuts) {
      return {query, Step::kBothParts, pieces | missing_};
    }
    const bool is_short = c_.short_queries > 0 && step + 1 == c_.steps_per_block;
    return {query, flags_at(c_.flags_index(is_short, distance, pieces | missing_)), 0};
  }

  // body(step) for those of this lane's query blocks in a chunk that see anything.
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
        for (std::int32_t i = 0; i < c_.steps_per_block; ++i) {
          const ColumnStep step = step_of(q_block, i, pieces);
          if ((step.flags & Step::kBothParts) != 0) body(step);
        }
      }
    }
  }

  // This lane's share of a chunk.
  __device__ __forceinline__ Found count_own(int list, std::int32_t first) const {
    Found own;
    for_each_step(list, first, [&](const ColumnStep& step) {
      if (step.gathered_pieces != 0) {
#pragma unroll
        for (int c = 0; c < kClasses; ++c) {
          own.gathered[c] += step.gathered_pieces == static_cast<std::uint32_t>(c + 1) ? 1 : 0;
        }
      } else {
        ++((step.flags & Step::kHasBitmap) != 0 ? own.partial : own.full);
      }
    });
    return own;
  }

  // combine(value) for all counts.
  template <class Combine>
  __device__ __forceinline__ static void for_each_count(Found& found, Combine combine) {
    combine(found.partial);
    combine(found.full);
#pragma unroll
    for (int c = 0; c < kClasses; ++c) combine(found.gathered[c]);
  }

  // Of a list, in all lanes.
  __device__ __forceinline__ Found count(int list) const {
    Found all;
    for (std::int32_t first = 0; first < c_.q_pitch; first += kChunk) {
      const Found own = count_own(list, first);
      all.partial += own.partial;
      all.full += own.full;
#pragma unroll
      for (int c = 0; c < kClasses; ++c) all.gathered[c] += own.gathered[c];
    }
    for_each_count(all, [](std::int32_t& value) {
      for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(kAllLanes, value, step);
    });
    return all;
  }

  // The counts of a chunk in the lanes before, and of all of them added to `passed`.
  __device__ __forceinline__ Found before_lane(const Found& own, Found& passed) const {
    Found up_to_here = own;
    for_each_count(up_to_here, [&](std::int32_t& value) {
      for (int step = 1; step < 32; step *= 2) {
        const std::int32_t other = __shfl_up_sync(kAllLanes, value, step);
        if (lane_ >= step) value += other;
      }
    });
    Found before;
    before.partial = passed.partial + up_to_here.partial - own.partial;
    before.full = passed.full + up_to_here.full - own.full;
    passed.partial += __shfl_sync(kAllLanes, up_to_here.partial, 31);
    passed.full += __shfl_sync(kAllLanes, up_to_here.full, 31);
#pragma unroll
    for (int c = 0; c < kClasses; ++c) {
      before.gathered[c] = passed.gathered[c] + up_to_here.gathered[c] - own.gathered[c];
      passed.gathered[c] += __shfl_sync(kAllLanes, up_to_here.gathered[c], 31);
    }
    return before;
  }

  // The steps of all heads that have a list, one after another; `all`: what the list has.
  __device__ __forceinline__ void write(int list, const Found& all, const Places& places) const {
    Found passed;
    for (std::int32_t first = 0; first < c_.q_pitch; first += kChunk) {
      const Found before = before_lane(count_own(list, first), passed);
      for (std::int32_t i = 0; i < c_.heads_per_list; ++i) {
        const std::int32_t head = list * c_.heads_per_list + i;
        const Places of_head{places.partial + i * all.partial_steps(c_.boxes_per_step),
                             places.full + i * all.full_steps(c_.boxes_per_step), places.box};
        Found at = before;
        for_each_step(list, first, [&](const ColumnStep& step) {
          if (step.gathered_pieces != 0) {
            write_box(step, head, all, of_head, at);
          } else {
            const bool is_partial = (step.flags & Step::kHasBitmap) != 0;
            const std::int32_t to =
                is_partial ? of_head.partial + at.partial++ : of_head.full + at.full++;
            params_.steps[to] = {{step.query, step.flags}, head, 0};
          }
        });
      }
    }
  }

  // A query block of a gathered step, and the step if it is its first.
  __device__ __forceinline__ void write_box(const ColumnStep& box, std::int32_t head,
                                            const Found& all, const Places& places,
                                            Found& at) const {
    std::int32_t place = places.box;
#pragma unroll
    for (int c = 0; c < kClasses; ++c) {
      if (box.gathered_pieces == static_cast<std::uint32_t>(c + 1)) {
        const std::int32_t rank = at.gathered[c]++;
        place += rank;
        params_.sub_tiles[place] = box.query;
        if (rank % c_.boxes_per_step == 0) {
          const std::int32_t boxes = min(c_.boxes_per_step, all.gathered[c] - rank);
          const std::uint32_t flags =
              flags_at(c_.gathered_flags_index(box.gathered_pieces, boxes)) | Step::kIsGathered |
              static_cast<std::uint32_t>(boxes - 1) << Step::kBoxesShift;
          const bool is_full = (flags & Step::kHasBitmap) == 0;
          // Of the class of all pieces the rest alone is partial.
          const std::int32_t step = c == kClasses - 1 && !is_full ? 0 : rank / c_.boxes_per_step;
          const std::int32_t to = is_full ? places.full + all.full + step
                                          : places.partial + all.partial +
                                                all.gathered_before(c, c_.boxes_per_step) + step;
          params_.steps[to] = {{place, flags}, head, 0};
        }
      }
      place += all.gathered[c];
    }
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
