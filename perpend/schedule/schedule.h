#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <iosfwd>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "perpend/core/range.h"
#include "perpend/mask/bound_mask.h"
#include "perpend/mask/mask.h"
#include "perpend/schedule/attachments.h"
#include "perpend/schedule/attention_shape.h"
#include "perpend/schedule/tile_bitmap.h"
#include "perpend/schedule/tiling.h"

namespace perpend {

// How compile() chose to lay the tiles of a sequence, in positions (tokens).
struct TilePlan {
  int outer_tile = 0;    // positions of a work item, at most
  int outer_part = 0;    // positions of one of its parts
  int inner_tile = 0;    // positions of one step
  int sub_tile = 0;      // positions of a gathered sub-tile; inner_tile when steps are contiguous
  bool packed = false;   // an item covers all heads of a group: outer_part * group_size rows a part
  bool aligned = false;  // items begin at the starts of segments too

  int num_parts() const { return outer_tile / outer_part; }
  // As bits of TileEntry::live_parts().
  unsigned all_parts() const { return num_parts() == 1 ? 1 : 3; }
  friend bool operator==(const TilePlan&, const TilePlan&) = default;
};

// One step of an item: up to inner_tile positions of the inner axis. Contiguous: those from `begin`
// on, clipped to the sequence. Gathered: num_sub_tiles sub-tiles side by side, ascending, the first
// of them Schedule::sub_tiles[begin]; the columns after the last are dead. Lists are most of a plan
// and copied as a whole: eight bytes, with nothing to construct.
struct TileEntry {
  static constexpr std::int32_t kFull = -1;
  static constexpr std::int32_t kMostBitmaps = 1 << 21;
  static constexpr int kMostSubTiles = 31;

  static constexpr TileEntry contiguous(std::int64_t begin, std::int32_t bitmap,
                                        unsigned live_parts) {
    return {static_cast<std::int32_t>(begin),
            bitmap * (1 << kBitmapShift) | static_cast<std::int32_t>(live_parts)};
  }
  // `sub_tile`: a power of two.
  static constexpr TileEntry gathered(std::size_t begin, std::int32_t bitmap, unsigned live_parts,
                                      std::size_t num_sub_tiles, std::int64_t sub_tile) {
    TileEntry entry = contiguous(static_cast<std::int64_t>(begin), bitmap, live_parts);
    const int log2 = std::countr_zero(static_cast<std::uint64_t>(sub_tile));
    entry.rest |= static_cast<std::int32_t>(num_sub_tiles) << kCountShift | log2 << kSizeShift;
    return entry;
  }

  // kFull: every pair of the live parts is live (a gathered step has all its columns then, a
  // contiguous one those that the sequence has); else an index into the bitmaps.
  constexpr std::int32_t bitmap() const { return rest >> kBitmapShift; }
  constexpr bool is_full() const { return rest < 0; }
  // Bit p: part p of the item has a live pair here.
  constexpr unsigned live_parts() const { return static_cast<unsigned>(rest) & kBothParts; }
  constexpr int num_sub_tiles() const { return rest >> kCountShift & kMostSubTiles; }
  constexpr bool is_gathered() const { return num_sub_tiles() != 0; }
  // Positions of each sub-tile, when gathered.
  constexpr int sub_tile() const { return 1 << (rest >> kSizeShift & kMostSize); }

  constexpr void set_bitmap(std::int32_t bitmap) {
    rest = (rest & ((1 << kBitmapShift) - 1)) | bitmap * (1 << kBitmapShift);
  }
  constexpr void set_live_parts(unsigned parts) {
    rest = (rest & ~static_cast<std::int32_t>(kBothParts)) | static_cast<std::int32_t>(parts);
  }
  friend constexpr bool operator==(const TileEntry&, const TileEntry&) = default;

  std::int32_t begin;
  std::int32_t rest;  // all else: bitmap, number and size of the sub-tiles, live parts

 private:
  static constexpr unsigned kBothParts = 3;
  static constexpr int kSizeShift = 2;
  static constexpr int kMostSize = 7;
  static constexpr int kCountShift = 5;
  static constexpr int kBitmapShift = 10;
};
static_assert(std::is_trivial_v<TileEntry> && sizeof(TileEntry) == 8);

// What one worker takes. In a row sweep: a query tile of query heads [q_head, q_head + num_heads),
// all of one key/value head. In a column sweep: a key tile of one key/value head with the query
// heads that must be summed, all of its group. Empty lists stay as items: they write o = 0 and
// lse = -inf, or zero gradients.
struct WorkItem {
  std::int32_t sequence = 0;     // index into shape.sequences
  std::int32_t q_head = 0;       // first query head
  std::int32_t num_heads = 1;    // query heads, at most a group
  std::int32_t begin = 0;        // first outer row, counted inside the sequence
  std::int32_t size = 0;         // outer rows, at most plan.outer_tile
  std::int32_t list = 0;         // list of the first head
  std::int32_t list_stride = 0;  // 0: all heads share it; 1: head h has list + h - q_head
};

// Entries [begin, end) of Schedule::entries; several lists may name the same ones.
struct ListRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

// A mask compiled for one shape and one sweep: the lists of steps, the dictionary of partial tiles,
// and the work items of a launch in the order in which they should start (longest first). Kernels
// see this and nothing else of a mask.
struct Schedule {
  Sweep sweep = Sweep::kRows;
  AttentionShape shape;
  Tiling tiling;  // what the device offered
  // What was chosen for each sequence, from its own mask and lengths alone: whoever shares the
  // batch changes neither a plan nor the order of a sum.
  std::vector<TilePlan> plans;
  // What is enough for all of them: the largest tiles and parts, the smallest sub-tiles.
  TilePlan plan;
  std::vector<TileEntry> entries;  // of a list: partial tiles first, then full; each by position
  std::vector<std::int32_t> sub_tiles;  // first inner position of each gathered sub-tile
  std::vector<ListRange> lists;         // shared by heads and sequences with equal masks
  std::vector<WorkItem> items;
  TileBitmaps bitmaps;  // rows are outer positions, columns inner positions of a tile
  // What kernels keep of it, so that a schedule that has been run must not be changed any more.
  Attachments attachments;

  std::int64_t outer_len(std::int32_t sequence) const;
  std::int64_t inner_len(std::int32_t sequence) const;
  std::span<const TileEntry> list(std::int32_t index) const {
    const ListRange range = lists[static_cast<std::size_t>(index)];
    return std::span(entries).subspan(static_cast<std::size_t>(range.begin),
                                      static_cast<std::size_t>(range.end - range.begin));
  }
  // The list of query head `q_head`, one of the item's.
  std::span<const TileEntry> list_of(const WorkItem& item, int q_head) const {
    return list(item.list + item.list_stride * (q_head - item.q_head));
  }
  const TilePlan& plan_of(const WorkItem& item) const {
    return plans[static_cast<std::size_t>(item.sequence)];
  }
  // Rows that a kernel computes for one part of an item, all of its heads together.
  std::int64_t rows_of_part(const WorkItem& item) const;
  std::span<const std::int32_t> sub_tiles_of(const TileEntry& entry) const {
    return std::span(sub_tiles).subspan(static_cast<std::size_t>(entry.begin),
                                        static_cast<std::size_t>(entry.num_sub_tiles()));
  }
  // Calls body(first inner position, positions, first column of the tile) for each contiguous piece
  // of a step, clipped to the sequence.
  template <class Body>
  void for_pieces(const TileEntry& entry, std::int64_t inner_length, Body body) const {
    const auto piece = [&](std::int32_t begin, int size, int column) {
      const auto count = std::min<std::int64_t>(size, inner_length - begin);
      if (count > 0) body(begin, static_cast<int>(count), column);
    };
    if (!entry.is_gathered()) return piece(entry.begin, plan.inner_tile, 0);
    int column = 0;
    for (const std::int32_t begin : sub_tiles_of(entry)) {
      piece(begin, entry.sub_tile(), column);
      column += entry.sub_tile();
    }
  }
};

// As text, a line for each item: its heads, its rows (outer positions) and the first inner position
// of each step; {...}: of each gathered sub-tile; ~n: bitmap n; ^ and _: for the first or the
// second part only.
std::ostream& operator<<(std::ostream& out, const Schedule& schedule);
std::ostream& operator<<(std::ostream& out, const TilePlan& plan);

// The steps of compile() that may be turned off, to see what each of them brings.
struct CompileOptions {
  bool search_tiling = true;  // off: heads apart if they may be, tiles on the grid, no gathers
  bool reuse_classes = true;  // off: the bits of every undecided cell are looked at
  bool reuse_regions = true;  // off: every tile asks the mask for its whole row or column
  bool reuse_lists = true;    // off: lists are made anew where one like them was made before
  bool share_lists = true;    // off: every head of every sequence gets lists of its own
  bool sort_items = true;     // off: items by sequence, head and position
  std::optional<TilePlan> plan = {};  // this plan wherever it is possible, without a search
};

// Plans `mask` for `shape`: exact, without a device and without an S x S array; work is
// proportional to live tiles and their boundary. Throws InvalidArgument for a shape that does not
// fit the mask and for names that are not bound.
Schedule compile(const Mask& mask, const AttentionShape& shape, const Tiling& tiling,
                 Sweep sweep = Sweep::kRows, const CompileOptions& options = {});
// The same with a mask for each sequence of the batch.
Schedule compile(std::span<const Mask> masks, const AttentionShape& shape, const Tiling& tiling,
                 Sweep sweep = Sweep::kRows, const CompileOptions& options = {});

// Whether a schedule is one that kernels can run: every index in its range, every list in its
// order, every row of every head in exactly one item. Returns an empty string, or what is wrong.
std::string check_form(const Schedule& schedule);

// Proves that each live pair of each head lies in exactly one tile of its items and no dead pair in
// any, and what check_form() says. Returns an empty string, or the first violation in words. Cost:
// every pair; for tests and debugging.
std::string verify(const Schedule& schedule, std::span<const Mask> masks);
inline std::string verify(const Schedule& schedule, const Mask& mask) {
  return verify(schedule, std::span(&mask, 1));
}

}  // namespace perpend
