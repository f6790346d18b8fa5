#pragma once

#include <array>
#include <cstdint>

namespace perpend {

// What planning may assume of a kernel's speed, in units of one full tile. Measured on a device;
// on a CPU only the order matters.
struct TileCosts {
  float partial = 1.08F;       // a tile with a bitmap
  float half_skipped = 0.72F;  // a tile of which one of two parts is skipped
  float gathered = 0.0F;       // added for each sub-tile of a gathered tile
  float item = 1.3F;           // start and end of a work item
  float bitmap = 0.05F;        // a bitmap that no other tile has: to be made and sent

  friend constexpr bool operator==(const TileCosts&, const TileCosts&) = default;
};

// Which query heads of a group one item of a row sweep has. (An item of a column sweep has all of
// them: their gradients are summed.)
enum class HeadRows : std::uint8_t {
  kSeparate,  // one
  kPacked,    // one; or all, as (position, head) pairs that share the rows of a tile
  kTogether,  // all that see the same; each brings outer_tile rows
};

// What a device's kernel can do, in rows of its matrices: a plain value from the kernel table, so
// that planning itself knows no device. `outer` is the axis of the work items (queries in a row
// sweep), `inner` the axis of their lists.
struct Tiling {
  int outer_tile = 64;  // rows of an item's tile
  int outer_part =
      64;  // outer_tile or half of it: parts that may skip a step apart from each other
  int inner_tile = 64;  // columns of one step
  // Sizes of sub-tiles that the loader can gather into one step: ascending, divisors of 64 and of
  // inner_tile, 0 for unused places; all 0: steps are contiguous.
  std::array<int, 4> sub_tiles{};
  // Steps and sub-tiles may begin at any position, not only at multiples of their size. Multiples
  // of the size never straddle a page of keys.
  bool any_start = false;
  bool any_outer_start = false;  // items too
  HeadRows heads = HeadRows::kTogether;
  TileCosts costs{};

  friend constexpr bool operator==(const Tiling&, const Tiling&) = default;
};

// Contiguous tiles of one part.
constexpr Tiling plain_tiling(int outer_tile, int inner_tile) {
  return {.outer_tile = outer_tile, .outer_part = outer_tile, .inner_tile = inner_tile};
}

}  // namespace perpend
