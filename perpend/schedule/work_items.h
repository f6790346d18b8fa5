#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "perpend/schedule/problems.h"
#include "perpend/schedule/schedule.h"

namespace perpend {

// The outer tiles of all problems and the lists made for them.
struct TilesOfProblems {
  std::vector<Range> tiles;
  std::vector<std::size_t> first;  // of each problem, and one more

  std::span<const Range> of(std::int32_t problem) const {
    const auto p = static_cast<std::size_t>(problem);
    return std::span(tiles).subspan(first[p], first[p + 1] - first[p]);
  }
  // List of the first tile: lists stand in the order of tiles.
  std::int32_t list_of(std::int32_t problem) const {
    return static_cast<std::int32_t>(first[static_cast<std::size_t>(problem)]);
  }
};

// Makes the items of a schedule whose lists are made; `costs` are those of the lists. With `sort`,
// longest first, so that the last items to start are short (LPT order); items of equal cost, and
// without `sort` all, stand in the order of sequences, heads and positions, in which they share
// keys.
void make_items(const Problems& problems, const TilesOfProblems& laid, std::vector<float> costs,
                bool sort, Schedule& schedule);

}  // namespace perpend
