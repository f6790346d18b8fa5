#pragma once

#include "perpend/mask/bound_mask.h"
#include "perpend/schedule/tiling.h"

namespace perpend {

// What a Hopper kernel of tensor-memory loads and warpgroup products offers: two warpgroups of 64
// rows that may skip a step apart from each other, boxes of 16, 32 or 64 rows at any position.
// Rows: 128 query rows against steps of 128 keys (64 from head_dim 129 on, where the accumulators
// leave room for no more). Columns: 128 keys, resident, against steps of 64 queries. The costs are
// those of a prototype on an H100.
constexpr Tiling gpu_tiling(int head_dim, Sweep sweep) {
  const bool is_wide = sweep == Sweep::kRows && head_dim <= 128;
  return {.outer_tile = 128,
          .outer_part = 64,
          .inner_tile = is_wide ? 128 : 64,
          .sub_tiles = is_wide ? std::array{16, 32, 64, 0} : std::array{16, 32, 0, 0},
          .any_start = true,
          .any_outer_start = true,
          .heads = HeadRows::kPacked,
          .costs = {.partial = 1.08F, .half_skipped = 0.72F, .gathered = 0.00125F, .item = 1.3F}};
}

}  // namespace perpend
