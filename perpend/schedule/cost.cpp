#include "perpend/schedule/cost.h"

#include <algorithm>
#include <bit>
#include <vector>

namespace perpend {

float item_cost(std::span<const TileEntry> row) {
  constexpr float kPartial = 1.08F;
  constexpr float kItem = 1.3F;
  float cost = kItem;
  for (const TileEntry& tile : row) cost += tile.is_full() ? 1.0F : kPartial;
  return cost;
}

ScheduleCost cost_of(const Schedule& schedule) {
  std::vector<std::int64_t> bits(static_cast<std::size_t>(schedule.bitmaps.count()));
  for (std::int32_t bitmap = 0; bitmap < schedule.bitmaps.count(); ++bitmap) {
    for (int row = 0; row < schedule.tiling.q_tile; ++row) {
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
    const std::int64_t kv_len =
        schedule.shape.sequences[static_cast<std::size_t>(item.sequence)].kv_len;
    for (const TileEntry& tile : schedule.row(item.row)) {
      const std::int64_t keys =
          std::min<std::int64_t>(schedule.tiling.kv_tile, kv_len - tile.kv_begin);
      cost.computed_pairs += keys * item.q_rows;
      cost.live_pairs +=
          tile.is_full() ? keys * item.q_rows : bits[static_cast<std::size_t>(tile.bitmap)];
      ++(tile.is_full() ? cost.full_tiles : cost.partial_tiles);
    }
  }
  return cost;
}

}  // namespace perpend
