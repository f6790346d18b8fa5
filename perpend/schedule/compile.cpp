#include <algorithm>
#include <array>
#include <deque>
#include <functional>
#include <numeric>

#include "perpend/core/demand.h"
#include "perpend/mask/covers.h"
#include "perpend/schedule/cost.h"
#include "perpend/schedule/list_builder.h"
#include "perpend/schedule/tiling_search.h"

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
    demand(
        sub_tile == 0 || (sub_tile > 0 && 64 % sub_tile == 0 && tiling.inner_tile % sub_tile == 0 &&
                          sub_tile < tiling.inner_tile && tiling.inner_tile / sub_tile < 256),
        "schedule: sub-tiles must divide 64 and the inner tile (", sub_tile, " vs ",
        tiling.inner_tile, ")");
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

void make_lists(const Problems& problems, const Plans& plans, const TilesOfProblems& laid,
                const CompileOptions& options, Schedule& schedule) {
  schedule.lists.reserve(laid.tiles.size());
  struct Builder {
    Builder(Schedule& schedule, const TilePlan& plan_, const CompileOptions& options)
        : plan(plan_), lists(schedule, plan_, options) {}
    TilePlan plan;
    ListBuilder lists;
  };
  std::deque<Builder> builders;  // of the distinct plans, which are few
  for (std::size_t k = 0; k < plans.size(); ++k) {
    const TilePlan& plan = plans[k].plan;
    auto builder = std::ranges::find(builders, plan, &Builder::plan);
    if (builder == builders.end()) {
      builders.emplace_back(schedule, plan, options);
      builder = builders.end() - 1;
    }
    const Problems::Kind& kind = problems.kinds()[k];
    for (std::size_t p = kind.first; p < kind.first + kind.count; ++p) {
      const Problem& problem = problems.all()[p];
      builder->lists.add_lists(problems.mask_of(problem), problem,
                               laid.of(static_cast<std::int32_t>(p)));
    }
  }
}

// Appends the items of query heads [q_head, q_head + num_heads) of a sequence, which share lists.
void add_items(std::size_t sequence, int q_head, int num_heads, std::int32_t problem,
               const TilesOfProblems& laid, Schedule& schedule) {
  std::int32_t list = laid.list_of(problem);
  for (const Range tile : laid.of(problem)) {
    schedule.items.push_back({static_cast<std::int32_t>(sequence), q_head, num_heads,
                              static_cast<std::int32_t>(tile.begin),
                              static_cast<std::int32_t>(tile.size()), list++});
  }
}

// Items of a group whose heads differ, in a column sweep: lists side by side, one a head.
void add_summed_items(std::size_t sequence, int q_head, int group, const Problems& problems,
                      const TilesOfProblems& laid, Schedule& schedule) {
  const auto tiles = laid.of(problems.of(sequence, q_head));
  for (std::size_t t = 0; t < tiles.size(); ++t) {
    schedule.items.push_back({static_cast<std::int32_t>(sequence), q_head, group,
                              static_cast<std::int32_t>(tiles[t].begin),
                              static_cast<std::int32_t>(tiles[t].size()),
                              static_cast<std::int32_t>(schedule.lists.size()), 1});
    for (int head = q_head; head < q_head + group; ++head) {
      const std::int32_t first = laid.list_of(problems.of(sequence, head));
      const ListRange list = schedule.lists[static_cast<std::size_t>(first) + t];
      schedule.lists.push_back(list);
    }
  }
}

// Heads [q_head, end) of a group with the problem of q_head end here at the latest.
int end_of_equals(const Problems& problems, std::size_t sequence, int q_head, int group_end) {
  int end = q_head + 1;
  while (end < group_end && problems.of(sequence, end) == problems.of(sequence, q_head)) ++end;
  return end;
}

void make_items(const Problems& problems, const TilesOfProblems& laid, Schedule& schedule) {
  const AttentionShape& shape = schedule.shape;
  const int group = shape.group_size();
  const bool columns = schedule.sweep == Sweep::kColumns;
  std::size_t num_items = 0;
  for (std::size_t s = 0; s < shape.sequences.size(); ++s) {
    num_items += laid.of(problems.of(s, 0)).size();
  }
  schedule.items.reserve(num_items * static_cast<std::size_t>(schedule.plan.packed || columns
                                                                  ? shape.num_kv_heads
                                                                  : shape.num_q_heads));
  for (std::size_t s = 0; s < shape.sequences.size(); ++s) {
    const bool together = schedule.plans[s].packed || columns;
    for (int head = 0; head < shape.num_q_heads;) {
      const int group_end = (head / group + 1) * group;
      const int end = together ? end_of_equals(problems, s, head, group_end) : head + 1;
      if (columns && end != group_end) {
        add_summed_items(s, head, group, problems, laid, schedule);
        head = group_end;
        continue;
      }
      add_items(s, head, end - head, problems.of(s, head), laid, schedule);
      head = end;
    }
  }
}

// Modelled cost of each item: of its lists, as often as it runs them, and of itself.
std::vector<float> item_costs(const Schedule& schedule) {
  std::vector<float> of_list(schedule.lists.size());
  for (std::size_t list = 0; list < of_list.size(); ++list) {
    of_list[list] = list_cost(schedule, static_cast<std::int32_t>(list));
  }
  const auto rows = static_cast<float>(schedule.tiling.outer_part);
  std::vector<float> costs;
  costs.reserve(schedule.items.size());
  for (const WorkItem& item : schedule.items) {
    const auto first = static_cast<std::size_t>(item.list);
    float cost = of_list[first];
    if (item.list_stride == 0) {
      const float heads = schedule.sweep == Sweep::kColumns
                              ? static_cast<float>(item.num_heads)
                              : static_cast<float>(schedule.rows_of_part(item)) / rows;
      cost *= heads;
    }
    for (int head = 1; head < item.num_heads * item.list_stride; ++head) {
      cost += of_list[first + static_cast<std::size_t>(head)];
    }
    costs.push_back(schedule.tiling.costs.item + cost);
  }
  return costs;
}

// Moves each item to its place, along the cycles of the permutation, in the memory there is.
void move_to(std::vector<std::uint32_t>& places, std::vector<WorkItem>& items) {
  for (std::size_t i = 0; i < items.size(); ++i) {
    while (places[i] != i) {
      const std::uint32_t place = places[i];
      std::swap(items[i], items[place]);
      std::swap(places[i], places[place]);
    }
  }
}

// Longest first, so that the last items to start are short (LPT order); items of equal cost keep
// the order of sequences, heads and positions, in which they share keys. A counting sort, since a
// fraction of a tile, or a small part of the longest item, makes no difference.
void sort_items(Schedule& schedule) {
  if (schedule.items.size() < 2) return;
  const std::vector<float> costs = item_costs(schedule);
  if (std::ranges::is_sorted(costs, std::greater<>())) return;
  constexpr float kStepsOfATile = 32;
  constexpr std::size_t kMostSteps = 4096;
  const float longest = std::ranges::max(costs);
  const float scale = std::min(kStepsOfATile, static_cast<float>(kMostSteps - 1) / longest);
  // Falls as the cost rises.
  const auto step = [&](float cost) {
    return static_cast<std::size_t>(longest * scale) - static_cast<std::size_t>(cost * scale);
  };
  std::array<std::uint32_t, kMostSteps> place{};
  for (const float cost : costs) ++place[step(cost)];
  std::exclusive_scan(place.begin(), place.end(), place.begin(), 0U);
  std::vector<std::uint32_t> places;
  places.reserve(costs.size());
  for (const float cost : costs) places.push_back(place[step(cost)]++);
  move_to(places, schedule.items);
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
  constexpr double kRoom = 1.05;
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
  make_lists(problems, plans, laid, options, schedule);
  make_items(problems, laid, schedule);
  if (options.sort_items) sort_items(schedule);
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
