#include <vector>

#include "perpend/core/concat.h"
#include "perpend/schedule/schedule.h"

namespace perpend {
namespace {

// How often the list of `q_head` holds each inner position of outer row `row` of the item.
void count_held(const Schedule& schedule, const WorkItem& item, int q_head, int row,
                std::vector<int>& times) {
  const std::int64_t inner_len = schedule.inner_len(item.sequence);
  times.assign(static_cast<std::size_t>(inner_len), 0);
  const int part = row / schedule.plan_of(item).outer_part;
  for (const TileEntry& tile : schedule.list_of(item, q_head)) {
    if ((tile.live_parts() >> part & 1U) == 0) continue;
    schedule.for_pieces(tile, inner_len, [&](std::int32_t begin, int count, int column) {
      for (int i = 0; i < count; ++i) {
        const auto c = static_cast<std::size_t>(column) + static_cast<std::size_t>(i);
        const bool live = tile.is_full() ||
                          (schedule.bitmaps.row(tile.bitmap(), row)[c / 64] >> (c % 64) & 1U) != 0;
        times[static_cast<std::size_t>(begin) + static_cast<std::size_t>(i)] += live ? 1 : 0;
      }
    });
  }
}

// Whether row `row` of a partial step has bits outside its pieces, which kernels would compute.
bool has_stray_bits(const Schedule& schedule, const WorkItem& item, const TileEntry& step,
                    int row) {
  std::vector<std::uint64_t> inside(static_cast<std::size_t>(schedule.bitmaps.words_per_row()));
  if (row < item.size) {
    schedule.for_pieces(
        step, schedule.inner_len(item.sequence), [&](std::int32_t, int count, int column) {
          for (int c = column; c < column + count; ++c) {
            inside[static_cast<std::size_t>(c / 64)] |= std::uint64_t{1} << (c % 64);
          }
        });
  }
  const auto bits = schedule.bitmaps.row(step.bitmap(), row);
  for (std::size_t w = 0; w < inside.size(); ++w) {
    if ((bits[w] & ~inside[w]) != 0) return true;
  }
  return false;
}

// Empty, or which list has bits outside its steps.
std::string check_bits(const Schedule& schedule, const WorkItem& item, int list) {
  for (const TileEntry& step : schedule.list(list)) {
    for (int row = 0; !step.is_full() && row < schedule.plan.outer_tile; ++row) {
      if (has_stray_bits(schedule, item, step, row)) {
        return concat("list ", list, ": bitmap ", step.bitmap(), " has bits outside the step");
      }
    }
  }
  return "";
}

// Empty, or what is wrong with one outer row of one head.
std::string check_row(const Schedule& schedule, const WorkItem& item, const BoundMask& mask,
                      int q_head, int row, std::vector<int>& times) {
  const std::int64_t q_offset =
      schedule.shape.sequences[static_cast<std::size_t>(item.sequence)].q_offset;
  count_held(schedule, item, q_head, row, times);
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

std::string check_item(const Schedule& schedule, const WorkItem& item, const Mask& mask) {
  std::string fault;
  std::vector<int> times;
  for (int head = item.q_head; fault.empty() && head < item.q_head + item.num_heads; ++head) {
    const BoundMask bound(mask, {head, head / schedule.shape.group_size()});
    fault = check_bits(schedule, item, item.list + item.list_stride * (head - item.q_head));
    for (int row = 0; fault.empty() && row < item.size; ++row) {
      fault = check_row(schedule, item, bound, head, row, times);
    }
  }
  return fault;
}

}  // namespace

std::string verify(const Schedule& schedule, std::span<const Mask> masks) {
  std::string fault = check_form(schedule);
  for (auto item = schedule.items.begin(); fault.empty() && item != schedule.items.end(); ++item) {
    const auto sequence = static_cast<std::size_t>(item->sequence);
    fault = check_item(schedule, *item, masks[masks.size() == 1 ? 0 : sequence]);
  }
  return fault;
}

}  // namespace perpend
