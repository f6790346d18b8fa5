#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/attention_image.h"
#include "perpend/kernels/cuda/device/forward_params.h"

// What the backward kernels are given. Both of their passes have one form: an item is a tile of
// outer rows, which stay, against steps of inner rows. Rows: queries (q, d_o) against keys (k, v);
// columns: keys (k, v) against queries (q, d_o) of all heads of their group. All pointers are to
// memory of the device.

namespace perpend::device {

constexpr int kGradientQueries = 64;  // queries of a step of the column pass

// One step of an item of the column pass.
struct alignas(16) KeyStep {
  Step step;
  std::int32_t head;  // of its queries, counted inside the group
  std::int32_t unused;
};

// One item of the column pass.
struct alignas(16) KeyItem {
  std::int32_t k_begin;  // first key, counted inside its sequence
  std::int32_t k_size;   // keys
  std::int32_t kv_head;
  std::int32_t sequence;
  std::int32_t list_begin;   // first of its steps
  std::int32_t num_partial;  // steps with a bitmap, which come first
  std::int32_t num_full;
  std::int32_t q_base;  // tokens of the sequences before, in a ragged batch
  std::int32_t kv_base;
  std::int32_t q_offset;  // position of query 0
  std::int32_t q_len;
  std::int32_t unused;
};

static_assert(sizeof(KeyStep) == 16 && sizeof(KeyItem) == 48);

// A column schedule's image.
struct KeyLists {
  const KeyItem* items;
  const KeyStep* steps;
  const std::int32_t* sub_tiles;
  const std::uint32_t* bitmaps;
  std::int32_t num_items;
  std::int32_t group_size;
  std::int32_t box_rows;
};

// What the preparation leaves of each query and head: -lse in units of log2 and delta, the sum of
// d_o * o less d_lse. Rows of a sequence begin at statistics_row() and end with kStatisticsPad that
// stand for no query: with -inf and 0 they have no weight.
constexpr int kStatisticsPad = kGradientQueries;
constexpr std::int64_t statistics_row(std::int64_t sequence, std::int64_t queries_before) {
  return queries_before + kStatisticsPad * sequence;
}
struct Statistics {
  float* negative_lse;  // [heads, rows]
  float* delta;
  std::int64_t rows;
};

// Where a gradient is written.
struct GradientOutput {
  void* data;
  RowStrides strides;
  bool is_f32;
  bool is_aligned;  // as Outputs::o_is_aligned
};

// Common to all backward kernels.
struct GradientParams {
  Statistics statistics;
  Scores scores;
  float scale;            // of q k^T
  std::int32_t head_dim;  // columns that are written
  bool q_is_ragged;
  bool kv_is_ragged;
};

struct RowPassParams {
  Lists lists;
  GradientOutput dq;
};

struct ColumnPassParams {
  KeyLists lists;
  GradientOutput dk;
  GradientOutput dv;
};

// Sums for dq that many CTAs add to: for each head and panel of columns the rows of all queries,
// one after another, so that any queries in a row are one piece of memory.
struct QuerySums {
  static constexpr int kPanels = 2;

  float* data;        // [heads, kPanels, rows, columns of a panel], zero before the first addition
  std::int64_t rows;  // queries of all sequences

  constexpr std::int64_t row_index(std::int64_t head, int panel, std::int64_t row) const {
    return (head * kPanels + panel) * rows + row;
  }
};
// Where a column of a panel lies in its row: a chunk of four has what a thread holds of 16 columns
// of a product. Odd rows have their chunks exchanged by fours, so that the stores of two rows,
// which are multiples of 128 bytes apart, do not meet in one bank.
constexpr int sum_place(std::int64_t row_index, int column) {
  const int chunk = column / 16 * 4 + column % 8 / 2;
  const int odd = static_cast<int>(row_index % 2);
  return (chunk ^ 4 * odd) * 4 + column / 8 % 2 * 2 + column % 2;
}

// The column pass that computes dq too.
struct FusedPassParams : ColumnPassParams {
  QuerySums dq;
};

// What a warp adds to the sums for dq at a time: a panel of sixteen queries of a head.
constexpr int kStripQueries = 16;
constexpr int kStepStrips = kGradientQueries / kStripQueries;

// An order of the additions to each strip, whose steps are sorted by it (see ColumnTurns).
struct QueryTurns {
  const std::int32_t*
      of_steps;         // [steps, kStepStrips]: additions before it; kNone: it adds nothing
  std::uint32_t* done;  // [heads, QuerySums::kPanels, rows] additions, 0 before the launch
  std::int64_t rows;    // strips of a head; those of a sequence begin at first_strip()

  static constexpr std::int32_t kNone = -1;

  // Any two sequences have strips of their own.
  static constexpr std::int64_t first_strip(std::int64_t sequence, std::int64_t queries_before) {
    return queries_before / kStripQueries + sequence;
  }
  constexpr std::int64_t row_index(std::int64_t head, int panel, std::int64_t row) const {
    return (head * QuerySums::kPanels + panel) * rows + row;
  }
};

// The fused pass whose additions have an order.
struct OrderedPassParams : FusedPassParams {
  QueryTurns turns;
};

}  // namespace perpend::device
