#include <algorithm>
#include <deque>

#include "perpend/core/demand.h"
#include "perpend/mask/covers.h"
#include "perpend/schedule/cost.h"
#include "perpend/schedule/list_builder.h"
#include "perpend/schedule/tiling_search.h"
#include "perpend/schedule/work_items.h"

namespace perpend {
namespace {

void check_tiling(const Tiling& tiling) {
  demand(tiling.outer_tile > 0 && tiling.inner_tile > 0, "schedule: tiles must be positive (",
         tiling.outer_tile, " x ", tiling.inner_tile, ")");
  demand(tiling.outer_part > 0 &&
             (tiling.outer_part == tiling.outer_tile || 2 * tiling.outer_part == tiling.outer_tile),
         "schedule: outer_part must be outer_tile or half of it (", tiling.outer_part, " vs ",
         tiling.outer_tile, ")");
  for (const int sub_tile : tiling.sub_tiles) {
    demand(sub_tile == 0 || (sub_tile > 0 && 64 % sub_tile == 0 &&
                             tiling.inner_tile % sub_tile == 0 && sub_tile < tiling.inner_tile &&
                             tiling.inner_tile / sub_tile <= TileEntry::kMostSubTiles),
           "schedule: sub-tiles must divide 64 and the inner tile, ", TileEntry::kMostSubTiles,
           " in one at most (", sub_tile, " vs ", tiling.inner_tile, ")");
  }
}

void check_shape(const AttentionShape& shape, std::span<const Mask> masks) {
  const std::size_t num_masks = masks.size();
  demand(num_masks == 1 || num_masks == shape.sequences.size(),
         "schedule: expected one mask or one a sequence (", num_masks, " masks, ",
         shape.sequences.size(), " sequences)");
  demand(shape.num_q_heads > 0 && shape.num_kv_heads > 0 &&
             shape.num_q_heads % shape.num_kv_heads == 0,
         "schedule: query heads must be a positive multiple of key/value heads (",
         shape.num_q_heads, " vs ", shape.num_kv_heads, ")");
  constexpr std::int64_t kMax = std::int64_t{1} << 30;
  const auto fits = [](std::int64_t length) { return length >= 0 && length < kMax; };
  for (const SequenceShape& sequence : shape.sequences) {
    demand(fits(sequence.q_len) && fits(sequence.kv_len) && fits(sequence.q_offset),
           "schedule: q_len, kv_len and q_offset must be in [0, 2^30) (", sequence.q_len, ", ",
           sequence.kv_len, ", ", sequence.q_offset, ")");
  }
  for (std::size_t s = 0; s < shape.sequences.size(); ++s) {
    const SequenceShape& sequence = shape.sequences[s];
    check_covers(masks[num_masks == 1 ? 0 : s], sequence.q_len, sequence.kv_len, sequence.q_offset);
  }
}

// What was chosen for each kind of sequence.
using Plans = std::vector<PlanCandidate>;

TilesOfProblems lay_all_tiles(const Problems& problems, const Plans& plans, Sweep sweep) {
  TilesOfProblems laid;
  for (std::size_t k = 0; k < plans.size(); ++k) {
    const TilePlan& plan = plans[k].plan;
    for (const Problem& problem : problems.of(problems.kinds()[k])) {
      laid.first.push_back(laid.tiles.size());
      const auto starts =
          plan.aligned ? segment_starts(problems, problem, sweep) : std::vector<std::int64_t>();
      const std::int64_t outer_len = problem.axes.outer_len;
      lay_outer_tiles(plan, starts, {0, outer_len}, outer_len, laid.tiles);
    }
  }
  laid.first.push_back(laid.tiles.size());
  return laid;
}

// Returns the cost of each list.
std::vector<float> make_lists(const Problems& problems, const Plans& plans,
                              const TilesOfProblems& laid, const CompileOptions& options,
                              Schedule& schedule) {
  schedule.lists.reserve(laid.tiles.size());
  std::vector<float> costs;
  costs.reserve(laid.tiles.size());
  struct Builder {
    Builder(Schedule& schedule, std::vector<float>& costs, const TilePlan& plan_,
            const CompileOptions& options)
        : plan(plan_), lists(schedule, costs, plan_, options) {}
    TilePlan plan;
    ListBuilder lists;
  };
  std::deque<Builder> builders;  // of the distinct plans, which are few
  for (std::size_t k = 0; k < plans.size(); ++k) {
    const TilePlan& plan = plans[k].plan;
    auto builder = std::ranges::find(builders, plan, &Builder::plan);
    if (builder == builders.end()) {
      builders.emplace_back(schedule, costs, plan, options);
      builder = builders.end() - 1;
    }
    const Problems::Kind& kind = problems.kinds()[k];
    for (std::size_t p = kind.first; p < kind.first + kind.count; ++p) {
      const Problem& problem = problems.all()[p];
      builder->lists.add_lists(problems.mask_of(problem), problem,
                               laid.of(static_cast<std::int32_t>(p)));
    }
  }
  return costs;
}

// A plan that was asked for, as far as the sequences of a kind allow it: heads of a group that see
// different keys can neither share rows nor, where they are summed, have tiles of their own.
TilePlan allowed_plan(TilePlan plan, const Problems::Kind& kind, const Schedule& schedule) {
  if (!kind.groups_differ) return plan;
  if (schedule.sweep == Sweep::kColumns) plan.aligned = false;
  if (plan.packed && schedule.tiling.heads == HeadRows::kPacked) {
    plan.packed = false;
    plan.outer_tile = schedule.tiling.outer_tile;
    plan.outer_part = schedule.tiling.outer_part;
  }
  return plan;
}

Plans choose_plans(const Problems& problems, const Schedule& schedule,
                   const CompileOptions& options) {
  const int group_size = schedule.shape.group_size();
  TilingSearch search(problems, group_size, schedule.tiling, schedule.sweep, options);
  Plans plans;
  for (const Problems::Kind& kind : problems.kinds()) {
    if (options.plan) {
      plans.push_back({allowed_plan(*options.plan, kind, schedule)});
    } else if (!options.search_tiling) {
      plans.push_back({plainest_plan(schedule.tiling, group_size)});
    } else {
      plans.push_back(search.candidates(kind).front());
    }
  }
  return plans;
}

// Notes the plans in the schedule, and makes room for what they are expected to need.
void adopt_plans(const Problems& problems, const Plans& plans, Schedule& schedule) {
  // A sample may miss what is rare; memory that is not used is never touched.
  constexpr double kRoom = 1.5;
  schedule.plan = plainest_plan(schedule.tiling, schedule.shape.group_size());
  if (!plans.empty()) schedule.plan = plans.front().plan;
  double steps = 0;
  double sub_tiles = 0;
  for (const PlanCandidate& candidate : plans) {
    const TilePlan& plan = candidate.plan;
    TilePlan& widest = schedule.plan;
    widest.outer_tile = std::max(widest.outer_tile, plan.outer_tile);
    widest.outer_part = std::max(widest.outer_part, plan.outer_part);
    widest.sub_tile = std::min(widest.sub_tile, plan.sub_tile);
    widest.packed |= plan.packed;
    widest.aligned |= plan.aligned;
    steps += candidate.steps;
    sub_tiles += candidate.sub_tiles;
  }
  for (std::size_t s = 0; s < schedule.shape.sequences.size(); ++s) {
    schedule.plans.push_back(plans[problems.kind_of(s)].plan);
  }
  schedule.bitmaps = TileBitmaps(schedule.plan.outer_tile, schedule.plan.inner_tile);
  schedule.entries.reserve(static_cast<std::size_t>(steps * kRoom));
  schedule.sub_tiles.reserve(static_cast<std::size_t>(sub_tiles * kRoom));
}

#ifdef NDEBUG
constexpr bool kProvesPlans = false;
#else
constexpr bool kProvesPlans = true;
#endif

// Debug builds prove small plans right where they are made.
void prove(const Schedule& schedule, std::span<const Mask> masks) {
  constexpr std::int64_t kMostPairs = 4096;
  if constexpr (!kProvesPlans) return;
  if (cost_of(schedule).total_pairs > kMostPairs) return;
  const std::string fault = verify(schedule, masks);
  if (!fault.empty()) bug(concat("compile: ", fault));
}

}  // namespace

Schedule compile(std::span<const Mask> masks, const AttentionShape& shape, const Tiling& tiling,
                 Sweep sweep, const CompileOptions& options) {
  check_tiling(tiling);
  check_shape(shape, masks);
  const Problems problems(masks, shape, sweep, options.share_lists);
  Schedule schedule;
  schedule.sweep = sweep;
  schedule.shape = shape;
  schedule.tiling = tiling;
  const Plans plans = choose_plans(problems, schedule, options);
  adopt_plans(problems, plans, schedule);
  const TilesOfProblems laid = lay_all_tiles(problems, plans, sweep);
  std::vector<float> costs = make_lists(problems, plans, laid, options, schedule);
  make_items(problems, laid, std::move(costs), options.sort_items, schedule);
  prove(schedule, masks);
  return schedule;
}

Schedule compile(const Mask& mask, const AttentionShape& shape, const Tiling& tiling, Sweep sweep,
                 const CompileOptions& options) {
  return compile(std::span(&mask, 1), shape, tiling, sweep, options);
}

std::vector<PlanCandidate> plan_candidates(std::span<const Mask> masks, const AttentionShape& shape,
                                           const Tiling& tiling, Sweep sweep) {
  check_tiling(tiling);
  check_shape(shape, masks);
  const CompileOptions options;
  const Problems problems(masks, shape, sweep, options.share_lists);
  if (problems.kinds().empty()) return {PlanCandidate{plainest_plan(tiling, shape.group_size())}};
  return TilingSearch(problems, shape.group_size(), tiling, sweep, options)
      .candidates(problems.kinds().front());
}

}  // namespace perpend
