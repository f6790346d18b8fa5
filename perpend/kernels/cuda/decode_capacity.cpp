#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "perpend/core/range.h"
#include "perpend/kernels/cuda/decode_image.h"

namespace perpend {
namespace {

// How the queries of a sequence may be laid into items.
struct QueryLayout {
  std::int64_t tile = 0;   // queries of an item
  std::int64_t heads = 0;  // items of a tile: heads, or groups of them
  std::int64_t rows = 0;   // of a query in an item
};

// Heads apart, and where a group fits together too: which one compile() takes depends on lengths.
std::array<QueryLayout, 2> query_layouts(const AttentionShape& shape) {
  const std::int64_t group = shape.group_size();
  const QueryLayout apart{device::kTileRows, shape.num_q_heads, 1};
  if (group > device::kPartRows) return {apart, apart};
  return {apart, {2 * (device::kPartRows / group), shape.num_kv_heads, group}};
}

// Tiles that begin at segments too may be shorter, but two neighbours are longer than one on the
// grid: the second would have been part of the first.
std::int64_t most_tiles(std::int64_t queries, std::int64_t tile) {
  return std::min(queries, 2 * ceil_div(queries, tile));
}

// Each cell of keys is in one step. Steps are filled, but for the last one of those that have both
// parts, only the first and only the second.
std::int64_t most_steps(std::int64_t keys, int keys_of_step) {
  return keys == 0 ? 0 : ceil_div(keys, std::int64_t{keys_of_step}) + 2;
}

// Lists of each sequence that heads do not share, for one tile: those of heads that see different
// keys, which no length changes.
std::vector<std::int64_t> lists_of_tiles(const Schedule& schedule) {
  std::vector<std::int64_t> counts(schedule.shape.sequences.size());
  std::set<std::pair<std::int32_t, std::int32_t>> known;
  for (const WorkItem& item : schedule.items) {
    if (item.begin != 0 || !known.emplace(item.sequence, item.list).second) continue;
    ++counts[static_cast<std::size_t>(item.sequence)];
  }
  return counts;
}

// Of a sequence.
PlanCapacity capacity_of(const SequenceShape& shape, const QueryLayout& layout,
                         std::int64_t lists_of_tile, int keys) {
  const std::int64_t tiles = most_tiles(shape.q_len, layout.tile);
  const std::int64_t items = tiles * layout.heads;
  const std::int64_t steps_of_list = most_steps(shape.kv_len, keys);
  const std::int64_t steps = tiles * lists_of_tile * steps_of_list;
  const std::int64_t rows = std::min(shape.q_len, layout.tile) * layout.rows;
  const std::int64_t pieces = most_pieces(items, steps_of_list, keys);
  const std::int64_t num_cut = most_items_cut(items, steps_of_list, keys);
  return {.items = pieces,
          .sums = num_cut * ceil_div(rows, std::int64_t{device::kRowsOfSumCta}),
          .steps = steps,
          .sub_tiles = steps * (keys / kDecodeBoxRows),
          .bitmaps = steps,
          .split_rows = num_cut == 0 ? 0 : pieces * rows};
}

// The fields of a capacity that sequences add up.
constexpr std::array kCounts = {&PlanCapacity::items,   &PlanCapacity::sums,
                                &PlanCapacity::steps,   &PlanCapacity::sub_tiles,
                                &PlanCapacity::bitmaps, &PlanCapacity::split_rows};

}  // namespace

PlanCapacity decode_capacity(const Schedule& schedule, int head_dim) {
  const int keys = device::keys_of_step(head_dim);
  const std::vector<std::int64_t> lists = lists_of_tiles(schedule);
  const auto layouts = query_layouts(schedule.shape);
  PlanCapacity room;
  for (std::size_t s = 0; s < lists.size(); ++s) {
    const SequenceShape& shape = schedule.shape.sequences[s];
    const TilePlan& plan = schedule.plans[s];
    // Heads that share the one part there is are never better apart (TilingSearch).
    const bool stays_packed = plan.packed && shape.q_len <= plan.outer_part;
    const PlanCapacity a = capacity_of(shape, layouts[stays_packed ? 1 : 0], lists[s], keys);
    const PlanCapacity b = capacity_of(shape, layouts[1], lists[s], keys);
    for (const auto count : kCounts) room.*count += std::max(a.*count, b.*count);
  }
  return room;
}

}  // namespace perpend
