#include <algorithm>
#include <map>
#include <tuple>
#include <vector>

#include "perpend/core/concat.h"
#include "perpend/schedule/schedule.h"

namespace perpend {
namespace {

// How often the list of `q_head` holds each inner position of outer row `row` of the item.
std::vector<int> times_held(const Schedule& schedule, const WorkItem& item, int q_head, int row) {
  const std::int64_t inner_len = schedule.inner_len(item.sequence);
  std::vector<int> times(static_cast<std::size_t>(inner_len));
  const int part = row / schedule.plan.outer_part;
  for (const TileEntry& tile : schedule.list_of(item, q_head)) {
    if ((tile.live_parts >> part & 1U) == 0) continue;
    schedule.for_pieces(tile, inner_len, [&](std::int32_t begin, int count, int column) {
      for (int i = 0; i < count; ++i) {
        const auto c = static_cast<std::size_t>(column + i);
        const bool live = tile.is_full() ||
                          (schedule.bitmaps.row(tile.bitmap, row)[c / 64] >> (c % 64) & 1U) != 0;
        times[static_cast<std::size_t>(begin + i)] += live ? 1 : 0;
      }
    });
  }
  return times;
}

// Empty, or what is wrong with one outer row of one head.
std::string check_row(const Schedule& schedule, const WorkItem& item, const BoundMask& mask,
                      int q_head, int row) {
  const std::int64_t q_offset =
      schedule.shape.sequences[static_cast<std::size_t>(item.sequence)].q_offset;
  const auto times = times_held(schedule, item, q_head, row);
  for (std::size_t i = 0; i < times.size(); ++i) {
    const auto outer = static_cast<std::int64_t>(item.begin) + row;
    const auto inner = static_cast<std::int64_t>(i);
    const bool rows = schedule.sweep == Sweep::kRows;
    const std::int64_t q = q_offset + (rows ? outer : inner);
    const std::int64_t k = rows ? inner : outer;
    const int expected = mask.visible(q, k) ? 1 : 0;
    if (times[i] != expected) {
      return concat("sequence ", item.sequence, ", head ", q_head, ", query ", q, ", key ", k,
                    ": in ", times[i], " tiles, expected ", expected);
    }
  }
  return "";
}

}  // namespace

std::string verify(const Schedule& schedule, std::span<const Mask> masks) {
  std::map<std::tuple<std::int32_t, std::int32_t, std::int64_t>, int> items_of_row;
  for (const WorkItem& item : schedule.items) {
    const Mask& mask = masks[masks.size() == 1 ? 0 : static_cast<std::size_t>(item.sequence)];
    for (int head = item.q_head; head < item.q_head + item.num_heads; ++head) {
      const BoundMask bound(mask, {head, head / schedule.shape.group_size()});
      for (int row = 0; row < item.size; ++row) {
        const std::string fault = check_row(schedule, item, bound, head, row);
        if (!fault.empty()) return fault;
        ++items_of_row[{item.sequence, head, item.begin + row}];
      }
    }
  }
  for (std::int32_t s = 0; s < static_cast<std::int32_t>(schedule.shape.sequences.size()); ++s) {
    for (int head = 0; head < schedule.shape.num_q_heads; ++head) {
      for (std::int64_t row = 0; row < schedule.outer_len(s); ++row) {
        const int count = items_of_row[{s, head, row}];
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
