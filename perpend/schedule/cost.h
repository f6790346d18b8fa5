#pragma once

#include <cstdint>

#include "perpend/schedule/schedule.h"

namespace perpend {

// What the cost of a list depends on.
struct StepCounts {
  std::int64_t steps = 0;
  std::int64_t partial = 0;    // with a bitmap
  std::int64_t skipped = 0;    // that a part of the item skips
  std::int64_t sub_tiles = 0;  // gathered

  // `live_parts` are what is expected of a step that no part skips.
  void add(const TileEntry& step, unsigned live_parts) {
    ++steps;
    partial += step.is_full() ? 0 : 1;
    skipped += (step.live_parts() & live_parts) == live_parts ? 0 : 1;
    sub_tiles += step.num_sub_tiles();
  }
  // In units of one full tile.
  float cost(const TileCosts& costs) const {
    return static_cast<float>(steps) + (costs.half_skipped - 1.0F) * static_cast<float>(skipped) +
           (costs.partial - 1.0F) * static_cast<float>(partial) +
           costs.gathered * static_cast<float>(sub_tiles);
  }
  friend StepCounts operator+(const StepCounts& a, const StepCounts& b) {
    return {a.steps + b.steps, a.partial + b.partial, a.skipped + b.skipped,
            a.sub_tiles + b.sub_tiles};
  }
};

// Cost of the steps of one list, by the costs of the schedule's tiling.
float list_cost(const Schedule& schedule, std::int32_t list);

// What a schedule amounts to, over all heads of all sequences.
struct ScheduleCost {
  std::int64_t live_pairs = 0;  // visible (query, key) pairs
  // Pairs that a kernel computes: each live part of a step with all its rows and columns, those
  // beyond an item, a sub-tile or the sequence included.
  std::int64_t computed_pairs = 0;
  std::int64_t total_pairs = 0;    // q_len * kv_len
  std::int64_t full_tiles = 0;     // steps of all items without a bitmap
  std::int64_t partial_tiles = 0;  // and with one
  std::int64_t half_skipped = 0;   // steps that one of two parts skips
  std::int64_t gathered = 0;       // steps of sub-tiles
  std::int64_t inner_rows = 0;     // rows of the inner axis that steps load, all items
  std::int64_t q_rows = 0;         // rows of q and o
  std::int64_t kv_rows = 0;        // rows of k and of v
  std::int64_t list_bytes = 0;     // of entries, sub-tiles, lists, items and bitmaps

  double density() const {
    return total_pairs == 0 ? 0.0
                            : static_cast<double>(live_pairs) / static_cast<double>(total_pairs);
  }
  // Share of the computed pairs that are live.
  double efficiency() const {
    return computed_pairs == 0
               ? 1.0
               : static_cast<double>(live_pairs) / static_cast<double>(computed_pairs);
  }
  // Of a forward call: multiply-adds of q k^T and p v on live pairs, two operations each.
  double flops(std::int64_t head_dim) const {
    return 4.0 * static_cast<double>(live_pairs) * static_cast<double>(head_dim);
  }
  // Of a backward call: five products.
  double backward_flops(std::int64_t head_dim) const { return 2.5 * flops(head_dim); }
  // What a forward call must move at least: q, k, v and o once, lse, and the lists.
  double bytes(std::int64_t head_dim, std::int64_t value_bytes) const;
  // What its items load and store, mostly from caches: k and v again for each step (row sweeps).
  double moved_bytes(std::int64_t head_dim, std::int64_t value_bytes) const;
};

ScheduleCost cost_of(const Schedule& schedule);

}  // namespace perpend
