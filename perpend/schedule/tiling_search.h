#pragma once

#include <memory>
#include <span>
#include <vector>

#include "perpend/schedule/problems.h"
#include "perpend/schedule/schedule.h"

namespace perpend {

// A plan that the tiling allows, and what is expected of it.
struct PlanCandidate {
  TilePlan plan;
  double cost = 0.0;   // of a key/value head, in full tiles, work items included; 0: the only plan
  double steps = 0.0;  // of all lists together
  double sub_tiles = 0.0;  // likewise, at most
  bool gathers = false;    // some of them
};

// Plans that `tiling` allows for `masks` and `shape`, by the modelled cost of a sample of tiles:
// the heads and starts of items with the smallest sub-tiles, then sub-tiles of every size with the
// best of those. The first is what compile() chooses, the others follow by cost. Throws as
// compile().
std::vector<PlanCandidate> plan_candidates(std::span<const Mask> masks, const AttentionShape& shape,
                                           const Tiling& tiling, Sweep sweep = Sweep::kRows);

// The same for one kind of problems after another, which are made already. Keeps memory, but
// nothing of what it met: a plan does not depend on the kinds before.
class TilingSearch {
 public:
  TilingSearch(const Problems& problems, int group_size, const Tiling& tiling, Sweep sweep,
               const CompileOptions& options);
  ~TilingSearch();

  std::vector<PlanCandidate> candidates(const Problems::Kind& kind);

 private:
  class Sampler;

  int group_size_;
  Tiling tiling_;
  Sweep sweep_;
  std::unique_ptr<Sampler> sampler_;
};

// The plan without search: heads apart if they may be, tiles on the grid, no gathers.
TilePlan plainest_plan(const Tiling& tiling, int group_size);

// Where the segments begin that items of a problem may be aligned to, ascending positions counted
// inside the sequence.
std::vector<std::int64_t> segment_starts(const Problems& problems, const Problem& problem,
                                         Sweep sweep);

// Appends the tiles of a problem that begin in `rows`, the first of them at rows.begin: each of
// plan.outer_tile rows or up to outer_len; aligned, each ends at the last segment start it reaches.
void lay_outer_tiles(const TilePlan& plan, std::span<const std::int64_t> starts, Range rows,
                     std::int64_t outer_len, std::vector<Range>& tiles);

}  // namespace perpend
