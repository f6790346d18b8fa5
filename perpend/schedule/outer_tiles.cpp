#include <algorithm>

#include "perpend/schedule/tiling_search.h"

namespace perpend {

std::vector<std::int64_t> segment_starts(const Problems& problems, const Problem& problem,
                                         Sweep sweep) {
  const Axes& axes = problem.axes;
  if (axes.outer_len == 0) return {};
  const Range outer{axes.outer_offset, axes.outer_offset + axes.outer_len};
  std::vector<std::int64_t> starts = problems.mask_of(problem).starts(sweep, outer);
  for (std::int64_t& start : starts) start -= axes.outer_offset;
  return starts;
}

void lay_outer_tiles(const TilePlan& plan, std::span<const std::int64_t> starts, Range rows,
                     std::int64_t outer_len, std::vector<Range>& tiles) {
  auto next = plan.aligned ? std::ranges::upper_bound(starts, rows.begin) : starts.end();
  for (std::int64_t begin = rows.begin; begin < rows.end;) {
    std::int64_t end = std::min(begin + plan.outer_tile, outer_len);
    const std::int64_t reach = end;
    for (; next != starts.end() && *next <= reach; ++next) end = *next;
    tiles.push_back({begin, end});
    begin = end;
  }
}

}  // namespace perpend
