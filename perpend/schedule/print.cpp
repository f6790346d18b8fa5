#include <ostream>

#include "perpend/schedule/schedule.h"

namespace perpend {
namespace {

void print_step(std::ostream& out, const Schedule& schedule, const TileEntry& step, bool in_parts) {
  out << ' ';
  if (step.is_gathered()) {
    char separator = '{';
    for (const std::int32_t begin : schedule.sub_tiles_of(step)) {
      out << separator << begin;
      separator = ' ';
    }
    out << '}';
  } else {
    out << step.begin;
  }
  if (!step.is_full()) out << '~' << step.bitmap();
  if (in_parts && step.live_parts() != 3) out << (step.live_parts() == 1 ? '^' : '_');
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const TilePlan& plan) {
  out << plan.outer_tile << " x " << plan.inner_tile;
  if (plan.num_parts() > 1) out << ", parts of " << plan.outer_part;
  if (plan.sub_tile != plan.inner_tile) out << ", sub-tiles of " << plan.sub_tile;
  return out << (plan.packed ? ", heads packed" : "") << (plan.aligned ? ", aligned" : "");
}

std::ostream& operator<<(std::ostream& out, const Schedule& schedule) {
  const AttentionShape& shape = schedule.shape;
  out << (schedule.sweep == Sweep::kRows ? "rows" : "columns") << ", heads " << shape.num_q_heads
      << "/" << shape.num_kv_heads << '\n';
  for (std::size_t s = 0; s < shape.sequences.size(); ++s) {
    const SequenceShape& sequence = shape.sequences[s];
    out << "sequence " << s << ": " << sequence.q_len << " x " << sequence.kv_len << " from "
        << sequence.q_offset << ", tiles " << schedule.plans[s] << '\n';
  }
  for (const WorkItem& item : schedule.items) {
    const int num_lists = item.list_stride == 0 ? 1 : item.num_heads;
    for (int i = 0; i < num_lists; ++i) {
      const int last = item.q_head + (num_lists == 1 ? item.num_heads - 1 : i);
      const int first = num_lists == 1 ? item.q_head : item.q_head + i;
      out << "item " << item.sequence << " heads " << first << "-" << last << " rows " << item.begin
          << "-" << item.begin + item.size - 1 << ':';
      for (const TileEntry& step : schedule.list(item.list + i)) {
        print_step(out, schedule, step, item.size > schedule.plan_of(item).outer_part);
      }
      out << '\n';
    }
  }
  return out;
}

}  // namespace perpend
