#include "perpend/schedule/cost.h"

#include <algorithm>
#include <bit>
#include <vector>

namespace perpend {

float list_cost(const Schedule& schedule, std::int32_t list) {
  const TileCosts& costs = schedule.tiling.costs;
  float cost = costs.item;
  for (const TileEntry& tile : schedule.list(list)) {
    cost += (tile.is_full() ? 1.0F : costs.partial) +
            costs.gathered * static_cast<float>(tile.num_sub_tiles);
  }
  return cost;
}

ScheduleCost cost_of(const Schedule& schedule) {
  std::vector<std::int64_t> bits(static_cast<std::size_t>(schedule.bitmaps.count()));
  for (std::int32_t bitmap = 0; bitmap < schedule.bitmaps.count(); ++bitmap) {
    for (int row = 0; row < schedule.plan.outer_tile; ++row) {
      for (const std::uint64_t word : schedule.bitmaps.row(bitmap, row)) {
        bits[static_cast<std::size_t>(bitmap)] += std::popcount(word);
      }
    }
  }
  ScheduleCost cost;
  for (const SequenceShape& sequence : schedule.shape.sequences) {
    cost.total_pairs += sequence.q_len * sequence.kv_len;
  }
  for (const WorkItem& item : schedule.items) {
    if (item.q_head != 0) continue;
    for (const TileEntry& tile : schedule.list_of(item, 0)) {
      std::int64_t inner = 0;
      schedule.for_pieces(tile, schedule.inner_len(item.sequence),
                          [&](std::int32_t, int count, int) { inner += count; });
      cost.computed_pairs += inner * item.size;
      cost.live_pairs +=
          tile.is_full() ? inner * item.size : bits[static_cast<std::size_t>(tile.bitmap)];
      ++(tile.is_full() ? cost.full_tiles : cost.partial_tiles);
    }
  }
  return cost;
}

}  // namespace perpend
