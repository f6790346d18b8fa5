#include "perpend/schedule/schedule.h"

namespace perpend {

std::int64_t Schedule::outer_len(std::int32_t sequence) const {
  const SequenceShape& of = shape.sequences[static_cast<std::size_t>(sequence)];
  return sweep == Sweep::kRows ? of.q_len : of.kv_len;
}

std::int64_t Schedule::inner_len(std::int32_t sequence) const {
  const SequenceShape& of = shape.sequences[static_cast<std::size_t>(sequence)];
  return sweep == Sweep::kRows ? of.kv_len : of.q_len;
}

std::int64_t Schedule::rows_of_part(const WorkItem& item) const {
  const TilePlan& of = plan_of(item);
  const bool share_rows = of.packed && tiling.heads == HeadRows::kPacked;
  return share_rows ? tiling.outer_part : std::int64_t{of.outer_part} * item.num_heads;
}

}  // namespace perpend
