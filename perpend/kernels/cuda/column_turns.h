#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "perpend/kernels/cuda/column_image.h"

namespace perpend {

// The items and steps of a column image in an order in which CTAs that run side by side can add to
// dq one after another, always in the same order, with little waiting. At each strip of sixteen
// queries items take turns in the order in which CTAs take items, so that whoever is waited for is
// at work. All walk their steps in one direction, and those of a head that run at a time are few or
// begin apart, so that they rarely arrive at a strip before their turn.
struct ColumnTurns {
  std::vector<device::KeyItem> items;
  std::vector<device::KeyStep> steps;
  std::vector<std::int32_t> turns;  // [steps, kStepStrips], see device::QueryTurns
  double slowdown = 1;              // of the launch by waiting, as modelled
};

// What runs the launch.
struct TurnTakers {
  int num_ctas = 1;
  std::int64_t num_rows = 0;  // (query, head) pairs whose operands and sums fit into the L2 cache
};

// Nothing where strips of two steps would overlap, where there would be more than four million
// steps, or where waiting would make the launch more than `most_slowdown` times as long.
std::optional<ColumnTurns> make_column_turns(const ColumnImage& image, int group_size,
                                             const TurnTakers& takers, double most_slowdown);

}  // namespace perpend
