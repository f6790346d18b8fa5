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

}  // namespace perpend
