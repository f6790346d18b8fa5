#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "perpend/core/range.h"
#include "perpend/mask/mask.h"
#include "perpend/schedule/attention_shape.h"
#include "perpend/schedule/tile_bitmap.h"
#include "perpend/schedule/tiling.h"

namespace perpend {

// One live tile of a row: the kv_tile keys from kv_begin on. kv_begin is a multiple of kv_tile; the
// last tile of a sequence may be short. `bitmap` is kFull when every pair of the tile (clipped to
// the sequence) is live, else an index into Schedule::bitmaps.
struct TileEntry {
  static constexpr std::int32_t kFull = -1;

  std::int32_t kv_begin = 0;
  std::int32_t bitmap = kFull;

  bool is_full() const { return bitmap == kFull; }
  friend bool operator==(const TileEntry&, const TileEntry&) = default;
};

// What one worker takes: one query tile of some heads of one group, and the key tiles it must
// visit. The heads share keys, values and list, so that each key tile is read once for all of them.
// Empty lists stay as items: they write o = 0 and lse = -inf.
struct WorkItem {
  std::int32_t sequence = 0;   // index into shape.sequences
  std::int32_t q_head = 0;     // first query head
  std::int32_t num_heads = 1;  // query heads q_head, q_head + 1, ... of one key/value head
  std::int32_t q_begin = 0;    // first query row, counted inside the sequence
  std::int32_t q_rows = 0;     // rows of the tile, at most tiling.q_tile
  std::int32_t row = 0;        // key list [row_indptr[row], row_indptr[row + 1])
};

// A mask compiled for one shape: CSR key lists per query tile, shared by all heads (and equal
// sequences) that have equal masks, the dictionary of partial tiles, and the work items of a launch
// in the order in which they should start (longest first). Kernels see this and nothing else of a
// mask.
struct Schedule {
  AttentionShape shape;
  Tiling tiling;
  std::vector<TileEntry> entries;  // partial tiles of a row first, then full; each by kv_begin
  std::vector<std::int64_t> row_indptr;  // size: number of distinct rows + 1
  std::vector<WorkItem> items;
  TileBitmaps bitmaps;

  std::int32_t num_rows() const { return static_cast<std::int32_t>(row_indptr.size()) - 1; }
  std::span<const TileEntry> row(std::int32_t index) const {
    const auto first = static_cast<std::size_t>(row_indptr[static_cast<std::size_t>(index)]);
    const auto last = static_cast<std::size_t>(row_indptr[static_cast<std::size_t>(index) + 1]);
    return std::span(entries).subspan(first, last - first);
  }
};

// Plans `mask` for `shape`: exact, without a device and without an S x S array; work is
// proportional to live tiles and their boundary. Throws InvalidArgument for a shape that does not
// fit the mask.
Schedule compile(const Mask& mask, const AttentionShape& shape, const Tiling& tiling);

// Proves that each live pair of each head lies in exactly one tile of its row and no dead pair in
// any. Returns an empty string, or the first violation in words. Cost: every pair; for tests and
// debugging.
std::string verify(const Schedule& schedule, const Mask& mask);

}  // namespace perpend
