#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/block_lists.h"
#include "perpend/kernels/cuda/device/gradient_params.h"

// What host and device know of the lists that the gradients of keys need: the query blocks that see
// a tile of keys, from lists of the key blocks that a query block sees.

namespace perpend::device {

// A tile is the keys of an item of the column pass. A piece is what a bit stands for: a block, or
// 64 keys where blocks are larger. Queries of a step are of one query block, so that all of them
// see the same pieces of a tile; or, where query blocks are boxes that can be gathered, of several
// blocks that see the same ones. Items whose heads have the same lists share a column.
struct ColumnGeometry {
  static constexpr std::int32_t kMostPieces = 8;  // of a tile: bits of a byte
  static constexpr std::int32_t kMostLists = 32;  // that a CTA marks

  std::int32_t batch;
  std::int32_t piece_rows;
  std::int32_t pieces_per_block;
  std::int32_t num_pieces;
  std::int32_t pieces_per_tile;
  std::int32_t num_tiles;
  std::int32_t steps_per_block;    // of a query block
  std::int32_t short_queries;      // of its last step; 0: as many as of the others
  std::int32_t num_list_rows;      // batch * num_list_heads
  std::int32_t boxes_per_step;     // query blocks of a gathered step; 1: none are gathered
  std::int32_t q_pitch;            // query blocks, in whole chunks
  std::int32_t lists_per_cta;      // that one marks; a power of two
  std::int32_t columns_per_batch;  // [heads, num_tiles]
  std::int32_t lists_per_column;   // heads of a group that have lists of their own
  std::int32_t heads_per_list;     // of a group
  std::int32_t items_per_column;   // key/value heads that share it
  std::int32_t num_items;
  std::int32_t num_steps;  // room
  std::int32_t num_boxes;  // likewise; 0: none are gathered

  // Shared memory of a list that is marked.
  constexpr std::int32_t words_per_list() const { return (num_pieces + 31) / 32; }
  constexpr std::int32_t ctas_per_row() const { return q_pitch / lists_per_cta; }
  constexpr std::int32_t num_marking_ctas() const { return num_list_rows * ctas_per_row(); }
  constexpr std::int32_t num_columns() const { return batch * columns_per_batch; }
  // Pieces of a tile that are behind the last key.
  constexpr std::uint32_t missing_pieces(std::int32_t tile) const {
    const std::int32_t there = num_pieces - tile * pieces_per_tile;
    return there >= pieces_per_tile ? 0 : (1U << pieces_per_tile) - (1U << there);
  }

  // Where the flags of a step stand: `distance` positions from the tile's first key to its first
  // query, which matter where the diagonal cuts the step, and the pieces that it sees.
  static constexpr std::int32_t kFirstCut = 1 - kGradientQueries;
  static constexpr std::int32_t kBehindCuts = kTileRows - 1;
  static constexpr std::int32_t kDistances = kBehindCuts - kFirstCut + 1;
  constexpr std::int32_t flags_index(bool is_short, std::int32_t distance,
                                     std::uint32_t pieces) const {
    const std::int32_t of_distance = distance < kBehindCuts ? distance : kBehindCuts;
    const std::int32_t row = (is_short ? kDistances : 0) + of_distance - kFirstCut;
    return (row << pieces_per_tile) + static_cast<std::int32_t>(pieces);
  }
  constexpr std::int32_t num_step_flags() const { return (2 * kDistances) << pieces_per_tile; }
  // Behind them those of gathered steps.
  constexpr std::int32_t gathered_flags_index(std::uint32_t pieces, std::int32_t boxes) const {
    return num_step_flags() + (static_cast<std::int32_t>(pieces) - 1) * boxes_per_step + boxes - 1;
  }
  constexpr std::int32_t num_flags() const {
    return num_step_flags() + (boxes_per_step > 1 ? kClasses * boxes_per_step : 0);
  }
  // Sets of pieces that gathered steps have: tiles have two.
  static constexpr std::int32_t kClasses = 3;
};

// Steps of a column.
struct ColumnList {
  std::int32_t begin;
  std::int32_t num_partial;
  std::int32_t num_full;
};

// All pointers are to memory of the device.
struct BlockColumnParams {
  BlockGeometry geometry;
  ColumnGeometry columns;
  BlockIndices lists;
  const std::uint32_t* flags;  // [num_flags()]; without a part: there is no such step
  std::uint8_t* pieces;        // [num_list_rows, num_tiles, q_pitch]: those of the tile, a bit each
  std::int32_t* next_step;     // where the next column's steps begin
  std::int32_t* next_box;      // and its gathered boxes
  KeyStep* steps;              // [num_steps]
  std::int32_t* sub_tiles;     // [num_boxes]
  ColumnList* of_columns;      // [num_columns()]
  std::uint8_t* buckets;       // [num_items], in the order of sequences, heads, tiles
  KeyItem* items;              // [num_items], sorted

  constexpr ItemSections sections() const {
    return item_sections(columns.num_items, std::int64_t{columns.num_tiles} * kHeadsInOrder);
  }
};

}  // namespace perpend::device
