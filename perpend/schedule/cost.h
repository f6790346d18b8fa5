#pragma once

#include <cstdint>

#include "perpend/schedule/schedule.h"

namespace perpend {

// Cost of one list in units of one full tile, by the costs of the schedule's tiling.
float list_cost(const Schedule& schedule, std::int32_t list);

// What a schedule amounts to, for one head.
struct ScheduleCost {
  std::int64_t live_pairs = 0;      // visible (query, key) pairs
  std::int64_t computed_pairs = 0;  // pairs of all live tiles, clipped to the sequences
  std::int64_t total_pairs = 0;     // q_len * kv_len
  std::int64_t full_tiles = 0;
  std::int64_t partial_tiles = 0;

  double density() const {
    return total_pairs == 0 ? 0.0
                            : static_cast<double>(live_pairs) / static_cast<double>(total_pairs);
  }
  // Multiply-adds of q k^T and p v on live pairs, two operations each.
  double flops(std::int64_t head_dim) const {
    return 4.0 * static_cast<double>(live_pairs) * static_cast<double>(head_dim);
  }
};

ScheduleCost cost_of(const Schedule& schedule);

}  // namespace perpend
