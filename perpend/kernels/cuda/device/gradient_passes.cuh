#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/gradient_params.h"
#include "perpend/kernels/cuda/device/gradient_scores.cuh"
#include "perpend/kernels/cuda/device/row_output.cuh"

// What tells the passes apart: where the rows of their items and steps are.

namespace perpend::device {

// Rows of an operand: of which head, from which token of which batch entry on.
struct RowsOrigin {
  std::int32_t head;
  std::int32_t token;
  std::int32_t batch;
};

struct RowPass {
  static constexpr bool kColumns = false;
  static constexpr bool kFused = false;
  static constexpr bool kOrdered = false;
  using Params = RowPassParams;
  using Item = device::Item;
  using Entry = Step;

  __device__ __forceinline__ static bool is_end(const Item& item) { return item.q_size < 0; }
  __device__ __forceinline__ static void set_end(Item& item) { item.q_size = -1; }
  __device__ __forceinline__ static Step step_of(const Entry& entry) { return entry; }
  __device__ __forceinline__ static bool is_packed(const Item& item) {
    return (item.kv_head_and_packing & 1) != 0;
  }

  __device__ __forceinline__ static RowsOrigin outer_origin(const Item& item,
                                                            const GradientParams& params) {
    const Place place = place_of(item, params.q_is_ragged);
    return {place.q_head, place.q_token, place.batch};
  }
  // Rows of the sequence that steps are of.
  __device__ __forceinline__ static std::int32_t inner_length(const Item& item) {
    return item.kv_len;
  }
  // Of the sequence's inner row 0.
  __device__ __forceinline__ static RowsOrigin inner_origin(const Item& item,
                                                            const Entry& /*entry*/,
                                                            int /*group_size*/,
                                                            const GradientParams& params) {
    const bool is_ragged = params.kv_is_ragged;
    return {item.kv_head_and_packing >> 1, is_ragged ? item.kv_base : 0,
            is_ragged ? 0 : item.sequence};
  }
};

struct ColumnPass {
  static constexpr bool kColumns = true;
  static constexpr bool kFused = false;
  static constexpr bool kOrdered = false;
  using Params = ColumnPassParams;
  using Item = KeyItem;
  using Entry = KeyStep;

  __device__ __forceinline__ static bool is_end(const Item& item) { return item.k_size < 0; }
  __device__ __forceinline__ static void set_end(Item& item) { item.k_size = -1; }
  __device__ __forceinline__ static Step step_of(const Entry& entry) { return entry.step; }
  __device__ __forceinline__ static bool is_packed(const Item& /*item*/) { return false; }

  __device__ __forceinline__ static RowsOrigin outer_origin(const Item& item,
                                                            const GradientParams& params) {
    const bool is_ragged = params.kv_is_ragged;
    return {item.kv_head, item.k_begin + (is_ragged ? item.kv_base : 0),
            is_ragged ? 0 : item.sequence};
  }
  __device__ __forceinline__ static std::int32_t inner_length(const Item& item) {
    return item.q_len;
  }
  __device__ __forceinline__ static RowsOrigin inner_origin(const Item& item, const Entry& entry,
                                                            int group_size,
                                                            const GradientParams& params) {
    const bool is_ragged = params.q_is_ragged;
    return {item.kv_head * group_size + entry.head, is_ragged ? item.q_base : 0,
            is_ragged ? 0 : item.sequence};
  }
};

// Columns for all three gradients.
struct FusedPass : ColumnPass {
  static constexpr bool kFused = true;
  using Params = FusedPassParams;
};

// The same with the same bits of dq in every run.
struct OrderedPass : FusedPass {
  static constexpr bool kOrdered = true;
  using Params = OrderedPassParams;
};

// Statistics and positions of the two outer rows of a thread, tile_row and tile_row + 8; of keys
// the positions alone, since their statistics are the steps'.
struct OuterRows {
  float negative_lse[2];
  float delta[2];
  OuterPositions positions;
};

__device__ __forceinline__ OuterRows outer_rows(const Item& item, int tile_row,
                                                const RowPassParams& pass,
                                                const GradientParams& params) {
  const Statistics& known = params.statistics;
  const Place place = place_of(item, params.q_is_ragged);
  OuterRows rows;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const Place::Row row = place.row(tile_row + 8 * i, pass.lists.group_size);
    const std::int64_t head = place.q_head + row.head;
    const std::int64_t index =
        head * known.rows + statistics_row(item.sequence, item.q_base) + item.q_begin + row.query;
    rows.negative_lse[i] = row.is_there ? known.negative_lse[index] : -INFINITY;
    rows.delta[i] = row.is_there ? known.delta[index] : 0.0F;
    rows.positions.position[i] = place.q_position + row.query;
    rows.positions.slope[i] = row.is_there ? slope_of(params.scores, place.q_head + row.head) : 0;
  }
  return rows;
}
__device__ __forceinline__ OuterRows outer_rows(const KeyItem& item, int tile_row,
                                                const ColumnPassParams& /*pass*/,
                                                const GradientParams& /*params*/) {
  return {{}, {}, {{item.k_begin + tile_row, item.k_begin + tile_row + 8}, {}}};
}

// With the slopes of a step, where they are its own.
__device__ __forceinline__ OuterPositions positions_at(const OuterRows& rows, const Item& /*item*/,
                                                       const Step& /*entry*/, int /*group_size*/,
                                                       const Scores& /*scores*/) {
  return rows.positions;
}
__device__ __forceinline__ OuterPositions positions_at(const OuterRows& rows, const KeyItem& item,
                                                       const KeyStep& entry, int group_size,
                                                       const Scores& scores) {
  const float slope = slope_of(scores, item.kv_head * group_size + entry.head);
  return {{rows.positions.position[0], rows.positions.position[1]}, {slope, slope}};
}

// The position of a column of a step, as masks count.
__device__ __forceinline__ std::int32_t column_position(const Item& /*item*/, const Step& entry,
                                                        int column, const Lists& lists) {
  return inner_position(lists, entry, column);
}
__device__ __forceinline__ std::int32_t column_position(const KeyItem& item, const KeyStep& entry,
                                                        int column, const KeyLists& lists) {
  return item.q_offset + inner_position(lists, entry.step, column);
}

// Where a row of a gradient is written.
__device__ __forceinline__ RowTarget row_target(const GradientOutput& output, RowsOrigin at,
                                                bool is_there, const GradientParams& params) {
  return {output.data,
          at.batch * output.strides.batch + at.token * output.strides.token +
              at.head * output.strides.head,
          params.head_dim,
          is_there,
          output.is_f32,
          output.is_aligned};
}
__device__ __forceinline__ RowTarget outer_target(const GradientOutput& output, const Item& item,
                                                  int tile_row, const RowPassParams& pass,
                                                  const GradientParams& params) {
  const Place place = place_of(item, params.q_is_ragged);
  const Place::Row row = place.row(tile_row, pass.lists.group_size);
  return row_target(output, {place.q_head + row.head, place.q_token + row.query, place.batch},
                    row.is_there, params);
}
__device__ __forceinline__ RowTarget outer_target(const GradientOutput& output, const KeyItem& item,
                                                  int tile_row, const ColumnPassParams& /*pass*/,
                                                  const GradientParams& params) {
  const RowsOrigin origin = ColumnPass::outer_origin(item, params);
  return row_target(output, {origin.head, origin.token + tile_row, origin.batch},
                    tile_row < item.k_size, params);
}

}  // namespace perpend::device
