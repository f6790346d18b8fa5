#pragma once

namespace perpend {

// Tile sizes in rows: what one step of a kernel computes. A plain value that a device offers, so
// that planning itself knows no device.
struct Tiling {
  int q_tile = 64;
  int kv_tile = 64;

  friend constexpr bool operator==(const Tiling&, const Tiling&) = default;
};

}  // namespace perpend
