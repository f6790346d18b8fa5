#pragma once

#include <array>

namespace perpend {

// What planning may assume of a kernel's speed, in units of one full tile. Measured on a device;
// on a CPU only the order matters.
struct TileCosts {
  float partial = 1.08F;       // a tile with a bitmap
  float half_skipped = 0.72F;  // a tile of which one of two parts is skipped
  float gathered = 0.0F;       // added for each sub-tile of a gathered tile
  float item = 1.3F;           // start and end of a work item

  friend constexpr bool operator==(const TileCosts&, const TileCosts&) = default;
};

// What a device's kernel can do, in rows of its matrices: a plain value from the kernel table, so
// that planning itself knows no device. `outer` is the axis of the work items (queries in a row
// sweep), `inner` the axis of their lists.
struct Tiling {
  int outer_tile = 64;  // rows of an item's tile
  int outer_part = 64;  // divides outer_tile: parts that may skip a tile apart from each other
  int inner_tile = 64;  // columns of one step
  // Sizes of sub-tiles that the loader can gather into one step, ascending, 0 for unused places;
  // all 0: steps are contiguous.
  std::array<int, 4> sub_tiles{};
  bool any_start = false;   // tiles may begin at any position, not only at multiples of their size
  bool packs_heads = true;  // rows may be (position, head of a group) pairs
  TileCosts costs{};

  friend constexpr bool operator==(const Tiling&, const Tiling&) = default;
};

// Contiguous tiles of one part.
constexpr Tiling plain_tiling(int outer_tile, int inner_tile) {
  return {.outer_tile = outer_tile, .outer_part = outer_tile, .inner_tile = inner_tile};
}

}  // namespace perpend
