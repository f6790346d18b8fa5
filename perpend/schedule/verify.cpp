#include <algorithm>
#include <map>
#include <tuple>
#include <vector>

#include "perpend/core/concat.h"
#include "perpend/schedule/schedule.h"

namespace perpend {
namespace {

// How often the tiles of `item` hold each key of query row `row` (counted inside the item).
std::vector<int> times_held(const Schedule& schedule, const WorkItem& item, int row,
                            std::int64_t kv_len) {
  std::vector<int> times(static_cast<std::size_t>(kv_len));
  for (const TileEntry& tile : schedule.row(item.row)) {
    const std::int64_t end =
        std::min<std::int64_t>(tile.kv_begin + schedule.tiling.kv_tile, kv_len);
    for (std::int64_t k = tile.kv_begin; k < end; ++k) {
      const auto column = static_cast<std::size_t>(k - tile.kv_begin);
      const bool live =
          tile.is_full() ||
          (schedule.bitmaps.row(tile.bitmap, row)[column / 64] >> (column % 64) & 1U) != 0;
      times[static_cast<std::size_t>(k)] += live ? 1 : 0;
    }
  }
  return times;
}

}  // namespace

std::string verify(const Schedule& schedule, const Mask& mask) {
  std::map<std::tuple<std::int32_t, std::int32_t, std::int64_t>, int> items_of_row;
  for (const WorkItem& item : schedule.items) {
    const SequenceShape& sequence =
        schedule.shape.sequences[static_cast<std::size_t>(item.sequence)];
    for (int row = 0; row < item.q_rows; ++row) {
      const std::int64_t q = sequence.q_offset + item.q_begin + row;
      const auto times = times_held(schedule, item, row, sequence.kv_len);
      for (std::int64_t k = 0; k < sequence.kv_len; ++k) {
        const int expected = mask.visible(q, k) ? 1 : 0;
        if (times[static_cast<std::size_t>(k)] != expected) {
          return concat("sequence ", item.sequence, ", query ", q, ", key ", k, ": in ",
                        times[static_cast<std::size_t>(k)], " tiles, expected ", expected);
        }
      }
      for (int head = item.q_head; head < item.q_head + item.num_heads; ++head) {
        ++items_of_row[{item.sequence, head, item.q_begin + row}];
      }
    }
  }
  for (std::size_t s = 0; s < schedule.shape.sequences.size(); ++s) {
    for (int head = 0; head < schedule.shape.num_q_heads; ++head) {
      for (std::int64_t row = 0; row < schedule.shape.sequences[s].q_len; ++row) {
        const int count = items_of_row[{static_cast<std::int32_t>(s), head, row}];
        if (count != 1) {
          return concat("sequence ", s, ", head ", head, ", row ", row, ": in ", count,
                        " work items, expected 1");
        }
      }
    }
  }
  return "";
}

}  // namespace perpend
