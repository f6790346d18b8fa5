#include <algorithm>
#include <tuple>
#include <vector>

#include "perpend/core/concat.h"
#include "perpend/schedule/schedule.h"

namespace perpend {
namespace {

bool is_index(std::int64_t index, std::size_t size) {
  return index >= 0 && index < static_cast<std::int64_t>(size);
}

std::string check_plan(const Schedule& schedule, const TilePlan& plan) {
  const Tiling& tiling = schedule.tiling;
  const bool holds =
      tiling.outer_part > 0 && plan.outer_part > 0 && plan.inner_tile > 0 && plan.sub_tile > 0 &&
      (plan.outer_tile == plan.outer_part ||
       plan.outer_tile == std::int64_t{2} * plan.outer_part) &&
      plan.num_parts() == tiling.outer_tile / tiling.outer_part &&
      plan.inner_tile % plan.sub_tile == 0 && plan.outer_tile <= schedule.plan.outer_tile &&
      plan.outer_tile <= tiling.outer_tile && plan.inner_tile == tiling.inner_tile &&
      plan.inner_tile == schedule.plan.inner_tile &&
      (!plan.packed || tiling.heads != HeadRows::kPacked ||
       std::int64_t{plan.outer_part} * schedule.shape.group_size() <= tiling.outer_part);
  if (holds) return "";
  return concat("a plan of ", plan.outer_tile, "/", plan.outer_part, " x ", plan.inner_tile, "/",
                plan.sub_tile, " positions");
}

std::string check_shape(const AttentionShape& shape) {
  constexpr std::int64_t kMax = std::int64_t{1} << 30;
  const auto fits = [](std::int64_t length) { return length >= 0 && length < kMax; };
  const bool holds =
      shape.num_kv_heads > 0 && shape.num_q_heads > 0 &&
      shape.num_q_heads % shape.num_kv_heads == 0 &&
      std::ranges::all_of(shape.sequences, [&](const SequenceShape& sequence) {
        return fits(sequence.q_len) && fits(sequence.kv_len) && fits(sequence.q_offset);
      });
  return holds ? "" : "a shape of negative or too large sizes";
}

// The pieces of one step: ascending, inside the sequence, where the tiling lets them begin. Returns
// the first position of the step, -1 if something is wrong.
std::int64_t first_position(const Schedule& schedule, const TileEntry& step,
                            std::int64_t inner_len) {
  const int size = step.is_gathered() ? step.sub_tile() : schedule.plan.inner_tile;
  std::int64_t end = 0;
  const std::int32_t begin = step.begin;
  const auto pieces = step.is_gathered() ? schedule.sub_tiles_of(step) : std::span(&begin, 1);
  for (const std::int32_t piece : pieces) {
    const bool is_aligned = schedule.tiling.any_start || piece % size == 0;
    if (piece < end || piece >= inner_len || !is_aligned) return -1;
    end = std::int64_t{piece} + size;
  }
  const bool is_whole = step.num_sub_tiles() * step.sub_tile() == schedule.plan.inner_tile;
  if (step.is_full() && step.is_gathered() && (!is_whole || end > inner_len)) return -1;
  return pieces.front();
}

std::string check_step(const Schedule& schedule, const TileEntry& step, unsigned present_parts) {
  if (step.live_parts() == 0 || (step.live_parts() & ~present_parts) != 0) {
    return concat("live parts ", step.live_parts(), " of ", present_parts);
  }
  if (!step.is_full() &&
      !is_index(step.bitmap(), static_cast<std::size_t>(schedule.bitmaps.count()))) {
    return concat("bitmap ", step.bitmap(), " of ", schedule.bitmaps.count());
  }
  const std::int64_t sub_tiles_end = std::int64_t{step.begin} + step.num_sub_tiles();
  const bool has_sub_tiles =
      !step.is_gathered() ||
      (step.begin >= 0 && step.num_sub_tiles() * step.sub_tile() <= schedule.plan.inner_tile &&
       sub_tiles_end <= static_cast<std::int64_t>(schedule.sub_tiles.size()));
  return has_sub_tiles ? "" : concat(step.num_sub_tiles(), " sub-tiles from ", step.begin);
}

std::string check_list(const Schedule& schedule, const WorkItem& item, std::int64_t list) {
  if (!is_index(list, schedule.lists.size())) return concat("no list ", list);
  const ListRange range = schedule.lists[static_cast<std::size_t>(list)];
  if (range.begin < 0 || range.end < range.begin ||
      range.end > static_cast<std::int64_t>(schedule.entries.size())) {
    return concat("list ", list, " ends beyond the entries");
  }
  const std::int64_t inner_len = schedule.inner_len(item.sequence);
  const unsigned present_parts = item.size > schedule.plan_of(item).outer_part ? 3U : 1U;
  bool full = false;
  std::int64_t last = -1;
  for (const TileEntry& step : schedule.list(static_cast<std::int32_t>(list))) {
    const std::string fault = check_step(schedule, step, present_parts);
    if (!fault.empty()) return concat("list ", list, ": ", fault);
    if (full && !step.is_full()) return concat("list ", list, ": a partial step behind full ones");
    if (full != step.is_full()) last = -1;
    full = step.is_full();
    const std::int64_t position = first_position(schedule, step, inner_len);
    if (position < 0) return concat("list ", list, ": a misplaced step at ", step.begin);
    if (position < last) return concat("list ", list, ": steps not in the order of positions");
    last = position;
  }
  return "";
}

std::string check_item(const Schedule& schedule, const WorkItem& item) {
  const AttentionShape& shape = schedule.shape;
  const int group = shape.group_size();
  const bool holds =
      is_index(item.sequence, shape.sequences.size()) && item.q_head >= 0 && item.num_heads >= 1 &&
      item.num_heads <= group && item.q_head / group < shape.num_kv_heads &&
      item.q_head % group + item.num_heads <= group &&
      (schedule.sweep == Sweep::kRows ? item.num_heads == 1 || schedule.plan.packed
                                      : item.num_heads == group) &&
      item.begin >= 0 && item.size >= 1 && item.size <= schedule.plan_of(item).outer_tile &&
      item.list >= 0 && (item.list_stride == 0 || item.list_stride == 1) &&
      (item.list_stride == 0 || schedule.sweep == Sweep::kColumns);
  if (!holds) {
    return concat("an item of sequence ", item.sequence, ", heads from ", item.q_head, " on, rows ",
                  item.begin, " + ", item.size, " that the plan does not allow");
  }
  const int num_lists = item.list_stride == 0 ? 1 : item.num_heads;
  for (int i = 0; i < num_lists; ++i) {
    std::string fault = check_list(schedule, item, std::int64_t{item.list} + i);
    if (!fault.empty()) return fault;
  }
  return "";
}

// Every row of every head in exactly one item: the items of a sequence, sorted, follow each other
// through the rows of one set of heads after another.
std::string check_cover(const Schedule& schedule) {
  std::vector<const WorkItem*> items;
  items.reserve(schedule.items.size());
  for (const WorkItem& item : schedule.items) items.push_back(&item);
  std::ranges::sort(items, {}, [](const WorkItem* item) {
    return std::tuple(item->sequence, item->q_head, item->begin);
  });
  auto next = items.begin();
  for (std::int32_t s = 0; s < static_cast<std::int32_t>(schedule.shape.sequences.size()); ++s) {
    if (schedule.outer_len(s) == 0) continue;
    for (int head = 0; head < schedule.shape.num_q_heads;) {
      const int num_heads = next == items.end() ? 1 : (*next)->num_heads;
      for (std::int64_t row = 0; row < schedule.outer_len(s); ++next) {
        if (next == items.end() || (*next)->sequence != s || (*next)->q_head != head ||
            (*next)->num_heads != num_heads || (*next)->begin != row) {
          return concat("sequence ", s, ", head ", head, ", row ", row,
                        ": expected in exactly one work item");
        }
        row += (*next)->size;
        if (row > schedule.outer_len(s)) return concat("sequence ", s, ": rows beyond its end");
      }
      head += num_heads;
    }
  }
  return next == items.end() ? "" : "more items than rows";
}

}  // namespace

std::string check_form(const Schedule& schedule) {
  std::string fault = check_shape(schedule.shape);
  TilePlan widest = schedule.plan;
  widest.packed = false;  // of any sequence, while the part may be that of another
  if (fault.empty()) fault = check_plan(schedule, widest);
  if (fault.empty() && schedule.plans.size() != schedule.shape.sequences.size()) {
    return concat(schedule.plans.size(), " plans of ", schedule.shape.sequences.size(),
                  " sequences");
  }
  for (auto plan = schedule.plans.begin(); fault.empty() && plan != schedule.plans.end(); ++plan) {
    fault = check_plan(schedule, *plan);
  }
  for (auto item = schedule.items.begin(); fault.empty() && item != schedule.items.end(); ++item) {
    fault = check_item(schedule, *item);
  }
  return fault.empty() ? check_cover(schedule) : fault;
}

}  // namespace perpend
