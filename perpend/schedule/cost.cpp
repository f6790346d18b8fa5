#include "perpend/schedule/cost.h"

#include <algorithm>
#include <bit>
#include <vector>

namespace perpend {
namespace {

std::vector<std::int64_t> live_bits(const TileBitmaps& bitmaps) {
  std::vector<std::int64_t> live(static_cast<std::size_t>(bitmaps.count()));
  for (std::int32_t bitmap = 0; bitmap < bitmaps.count(); ++bitmap) {
    for (const std::uint64_t word : bitmaps.tile(bitmap)) {
      live[static_cast<std::size_t>(bitmap)] += std::popcount(word);
    }
  }
  return live;
}

// Rows of an item in the parts that `live_parts` names.
std::int64_t rows_in(const TilePlan& plan, const WorkItem& item, unsigned live_parts) {
  std::int64_t rows = 0;
  for (int part = 0; part < plan.num_parts(); ++part) {
    if ((live_parts >> part & 1U) == 0) continue;
    rows += std::clamp(item.size - part * plan.outer_part, 0, plan.outer_part);
  }
  return rows;
}

std::int64_t live_parts_of(const TilePlan& plan, const TileEntry& entry) {
  const unsigned live = entry.live_parts();
  return plan.num_parts() == 1 ? live & 1U : (live & 1U) + (live >> 1 & 1U);
}

// Adds one list, run for `num_heads` query heads whose rows are in one item or in several.
void add_list(const Schedule& schedule, const WorkItem& item, std::int32_t list, int num_heads,
              const std::vector<std::int64_t>& bits, ScheduleCost& cost) {
  const TilePlan& plan = schedule.plan_of(item);
  const std::int64_t heads = num_heads;
  for (const TileEntry& entry : schedule.list(list)) {
    std::int64_t inner = 0;
    schedule.for_pieces(entry, schedule.inner_len(item.sequence),
                        [&](std::int32_t, int count, int) { inner += count; });
    const std::int64_t parts = live_parts_of(plan, entry);
    cost.live_pairs += heads * (entry.is_full() ? inner * rows_in(plan, item, entry.live_parts())
                                                : bits[static_cast<std::size_t>(entry.bitmap())]);
    cost.computed_pairs +=
        parts * schedule.rows_of_part(item) * plan.inner_tile * num_heads / item.num_heads;
    ++(entry.is_full() ? cost.full_tiles : cost.partial_tiles);
    cost.half_skipped += parts < plan.num_parts() ? 1 : 0;
    cost.gathered += entry.is_gathered() ? 1 : 0;
    cost.inner_rows += inner;
  }
}

template <class T>
std::int64_t bytes_of(const std::vector<T>& values) {
  return static_cast<std::int64_t>(values.size() * sizeof(T));
}

}  // namespace

float list_cost(const Schedule& schedule, std::int32_t list) {
  StepCounts counts;
  for (const TileEntry& step : schedule.list(list)) counts.add(step, schedule.plan.all_parts());
  return counts.cost(schedule.tiling.costs);
}

double ScheduleCost::bytes(std::int64_t head_dim, std::int64_t value_bytes) const {
  const auto row_bytes = static_cast<double>(head_dim * value_bytes);
  return row_bytes * 2.0 * static_cast<double>(q_rows + kv_rows) +
         static_cast<double>(q_rows) * sizeof(float) + static_cast<double>(list_bytes);
}

double ScheduleCost::moved_bytes(std::int64_t head_dim, std::int64_t value_bytes) const {
  const auto row_bytes = static_cast<double>(head_dim * value_bytes);
  return row_bytes * 2.0 * static_cast<double>(q_rows + inner_rows) +
         static_cast<double>(q_rows) * sizeof(float) + static_cast<double>(list_bytes);
}

ScheduleCost cost_of(const Schedule& schedule) {
  ScheduleCost cost;
  const AttentionShape& shape = schedule.shape;
  for (const SequenceShape& sequence : shape.sequences) {
    cost.total_pairs += sequence.q_len * sequence.kv_len * shape.num_q_heads;
    cost.q_rows += sequence.q_len * shape.num_q_heads;
    cost.kv_rows += sequence.kv_len * shape.num_kv_heads;
  }
  cost.list_bytes =
      bytes_of(schedule.entries) + bytes_of(schedule.sub_tiles) + bytes_of(schedule.lists) +
      bytes_of(schedule.items) +
      static_cast<std::int64_t>(schedule.bitmaps.words_per_tile() * 8) * schedule.bitmaps.count();
  const std::vector<std::int64_t> bits = live_bits(schedule.bitmaps);
  for (const WorkItem& item : schedule.items) {
    if (schedule.sweep == Sweep::kRows) {
      add_list(schedule, item, item.list, item.num_heads, bits, cost);
      continue;
    }
    for (int head = 0; head < item.num_heads; ++head) {
      add_list(schedule, item, item.list + item.list_stride * head, 1, bits, cost);
    }
  }
  return cost;
}

}  // namespace perpend
