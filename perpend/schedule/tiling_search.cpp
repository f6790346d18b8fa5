#include "perpend/schedule/tiling_search.h"

#include <algorithm>
#include <deque>

#include "perpend/schedule/cost.h"
#include "perpend/schedule/list_builder.h"

namespace perpend {
namespace {

// The sample: so many windows of so many tiles, or everything where that is less.
constexpr std::int64_t kWindows = 10;
constexpr std::int64_t kTilesOfWindow = 2;

struct Window {
  std::int32_t problem = 0;
  Range rows;
  double weight = 0.0;  // rows that it stands for
};

// Windows at both ends of the rows, which stand for themselves, and spread evenly between them,
// taking turns among the problems.
std::vector<Window> sample_windows(std::span<const Problem> problems, std::int64_t size) {
  std::vector<Window> windows;
  const auto count = static_cast<std::int64_t>(problems.size());
  std::int64_t total = 0;
  for (const Problem& problem : problems) total += problem.axes.outer_len;
  const bool is_small = total <= kWindows * size;
  const std::int64_t num_windows = is_small ? std::min(count, kWindows) : kWindows;
  for (std::int64_t w = 0; w < num_windows; ++w) {
    const auto index = static_cast<std::int32_t>(is_small ? w * count / num_windows : w % count);
    const std::int64_t len = problems[static_cast<std::size_t>(index)].axes.outer_len;
    const std::int64_t begin = std::max<std::int64_t>(0, len - size) * w / (kWindows - 1);
    const Range rows = is_small ? Range{0, len} : Range{begin, std::min(begin + size, len)};
    windows.push_back({index, rows, static_cast<double>(rows.size())});
  }
  if (!is_small) {
    const double ends = windows.front().weight + windows.back().weight;
    for (std::int64_t w = 1; w < kWindows - 1; ++w) {
      windows[static_cast<std::size_t>(w)].weight =
          (static_cast<double>(total) - ends) / static_cast<double>(kWindows - 2);
    }
  }
  std::erase_if(windows, [](const Window& window) { return window.rows.empty(); });
  return windows;
}

// Moves a window back to where the plan has a tile begin.
Range at_tile(Range rows, const TilePlan& plan, std::span<const std::int64_t> starts) {
  std::int64_t origin = 0;
  if (plan.aligned) {
    const auto after = std::ranges::upper_bound(starts, rows.begin);
    if (after != starts.begin()) origin = *(after - 1);
  }
  const std::int64_t begin =
      origin + floor_div(rows.begin - origin, plan.outer_tile) * plan.outer_tile;
  return {begin, rows.end};
}

}  // namespace

class TilingSearch::Sampler {
 public:
  Sampler(const Problems& problems, int group_size, const Tiling& tiling, Sweep sweep,
          const CompileOptions& options)
      : problems_(problems), group_size_(group_size), options_(options) {
    scratch_.sweep = sweep;
    scratch_.tiling = tiling;
  }

  std::int64_t rows_of(const Problems::Kind& kind) const {
    return problems_.of(kind).front().axes.outer_len;
  }

  // What is weighed from here on.
  void start(const Problems::Kind& kind) {
    kind_ = problems_.of(kind);
    windows_ = sample_windows(kind_, kTilesOfWindow * scratch_.tiling.outer_tile);
    starts_.assign(kind_.size(), {});
    for (const Window& window : windows_) {
      auto& starts = starts_[static_cast<std::size_t>(window.problem)];
      if (scratch_.tiling.any_outer_start && starts.empty()) {
        starts = segment_starts(problems_, of(window), scratch_.sweep);
      }
    }
  }

  bool has_segments() const {
    return std::ranges::any_of(starts_, [](const auto& starts) { return starts.size() > 1; });
  }

  PlanCandidate weigh(const TilePlan& plan) {
    PlanCandidate candidate{plan};
    scratch_.plan = plan;
    ListBuilder& builder = builder_of(plan);
    for (const Window& window : windows_) {
      const std::int64_t known = builder.num_distinct();
      make_lists(plan, window, builder);
      const double rows =
          static_cast<double>(tiles_.back().end - tiles_.front().begin) / window.weight;
      const auto bitmaps = static_cast<double>(builder.num_distinct() - known);
      candidate.cost +=
          (cost_of_lists() + bitmaps * static_cast<double>(scratch_.tiling.costs.bitmap)) / rows;
      candidate.steps += static_cast<double>(scratch_.entries.size()) / rows;
      candidate.sub_tiles += static_cast<double>(scratch_.sub_tiles.size()) / rows;
      candidate.gathers |= !scratch_.sub_tiles.empty();
    }
    const bool share_rows = plan.packed && scratch_.tiling.heads == HeadRows::kPacked;
    if (!share_rows) candidate.cost *= group_size_;
    return candidate;
  }

 private:
  struct Builder {
    Builder(Schedule& scratch, std::vector<float>& costs, const TilePlan& plan_,
            const CompileOptions& options)
        : plan(plan_), lists(scratch, costs, plan_, options, /*with_bitmaps=*/false) {}
    TilePlan plan;
    ListBuilder lists;
  };

  ListBuilder& builder_of(const TilePlan& plan) {
    const auto known = std::ranges::find(builders_, plan, &Builder::plan);
    if (known == builders_.end()) {
      return builders_.emplace_back(scratch_, costs_, plan, options_).lists;
    }
    known->lists.restart();
    return known->lists;
  }

  void make_lists(const TilePlan& plan, const Window& window, ListBuilder& builder) {
    scratch_.entries.clear();
    scratch_.sub_tiles.clear();
    scratch_.lists.clear();
    costs_.clear();
    tiles_.clear();
    const Problem& problem = of(window);
    const auto& starts = starts_[static_cast<std::size_t>(window.problem)];
    lay_outer_tiles(plan, starts, at_tile(window.rows, plan, starts), problem.axes.outer_len,
                    tiles_);
    builder.add_lists(problems_.mask_of(problem), problem, tiles_);
  }
  double cost_of_lists() const {
    double cost = 0;
    for (const float list : costs_) {
      cost += static_cast<double>(scratch_.tiling.costs.item) + static_cast<double>(list);
    }
    return cost;
  }
  const Problem& of(const Window& window) const {
    return kind_[static_cast<std::size_t>(window.problem)];
  }

  const Problems& problems_;
  int group_size_;
  const CompileOptions& options_;
  Schedule scratch_;
  std::vector<float> costs_;      // of the lists in scratch_
  std::deque<Builder> builders_;  // of the plans that were weighed, which are few
  std::span<const Problem> kind_;
  std::vector<Window> windows_;
  std::vector<std::vector<std::int64_t>> starts_;  // of the problems that have windows
  std::vector<Range> tiles_;
};

namespace {

// Plans that differ in the heads of an item.
std::vector<TilePlan> plans_by_heads(const Tiling& tiling, int group_size, bool may_pack) {
  std::vector<TilePlan> plans = {plainest_plan(tiling, group_size)};
  if (may_pack && tiling.heads == HeadRows::kPacked && group_size > 1 &&
      group_size <= tiling.outer_part) {
    TilePlan packed = plans.front();
    packed.packed = true;
    packed.outer_part = tiling.outer_part / group_size;
    packed.outer_tile = packed.outer_part * (tiling.outer_tile / tiling.outer_part);
    plans.push_back(packed);
  }
  return plans;
}

// Puts what compile() chooses first: the cheapest, or the plainest that hardly costs more (plainer
// ones come first); the others follow by cost.
void rank(std::vector<PlanCandidate>& candidates) {
  constexpr double kHardlyMore = 1.001;
  const double least = std::ranges::min(candidates, {}, &PlanCandidate::cost).cost;
  const auto chosen = std::ranges::find_if(candidates, [&](const PlanCandidate& candidate) {
    return candidate.cost <= least * kHardlyMore;
  });
  std::rotate(candidates.begin(), chosen, chosen + 1);
  std::ranges::stable_sort(candidates.begin() + 1, candidates.end(), {}, &PlanCandidate::cost);
}

}  // namespace

TilePlan plainest_plan(const Tiling& tiling, int group_size) {
  return {.outer_tile = tiling.outer_tile,
          .outer_part = tiling.outer_part,
          .inner_tile = tiling.inner_tile,
          .sub_tile = tiling.inner_tile,
          .packed = tiling.heads == HeadRows::kTogether && group_size > 1};
}

TilingSearch::TilingSearch(const Problems& problems, int group_size, const Tiling& tiling,
                           Sweep sweep, const CompileOptions& options)
    : group_size_(group_size),
      tiling_(tiling),
      sweep_(sweep),
      sampler_(std::make_unique<Sampler>(problems, group_size, tiling, sweep, options)) {}

TilingSearch::~TilingSearch() = default;

std::vector<PlanCandidate> TilingSearch::candidates(const Problems::Kind& kind) {
  // Heads that are summed in one item must agree about its tile.
  const bool may_pack = sweep_ == Sweep::kRows && !kind.groups_differ;
  const bool may_align = tiling_.any_outer_start && (sweep_ == Sweep::kRows || !kind.groups_differ);
  auto plans = plans_by_heads(tiling_, group_size_, may_pack);
  if (plans.size() == 2 && sampler_->rows_of(kind) <= plans.back().outer_part) {
    // One part has the rows of all heads: the same lists for a group as for each head apart.
    plans.erase(plans.begin());
  }
  if (plans.size() == 1 && !may_align && tiling_.sub_tiles[0] == 0) {
    return {PlanCandidate{plans.front()}};
  }
  sampler_->start(kind);
  const auto weigh = [&](TilePlan plan, bool aligned, int sub_tile) {
    plan.aligned = aligned;
    plan.sub_tile = sub_tile;
    return sampler_->weigh(plan);
  };
  // The smallest sub-tiles fit every layout of items best; their size is chosen for one layout.
  const int smallest = tiling_.sub_tiles[0] != 0 ? tiling_.sub_tiles[0] : tiling_.inner_tile;
  std::vector<PlanCandidate> layouts;
  for (const TilePlan& plan : plans) {
    layouts.push_back(weigh(plan, false, smallest));
    if (may_align && sampler_->has_segments()) layouts.push_back(weigh(plan, true, smallest));
  }
  rank(layouts);
  const TilePlan layout = layouts.front().plan;
  if (!layouts.front().gathers) {
    layouts.front().plan.sub_tile = tiling_.inner_tile;  // the same steps, called by their name
    return layouts;
  }
  std::vector<PlanCandidate> candidates = {weigh(layout, layout.aligned, tiling_.inner_tile)};
  for (std::size_t i = tiling_.sub_tiles.size() - 1; i > 0; --i) {
    const int sub_tile = tiling_.sub_tiles[i];
    if (sub_tile != 0) candidates.push_back(weigh(layout, layout.aligned, sub_tile));
  }
  candidates.insert(candidates.end(), layouts.begin(), layouts.end());
  rank(candidates);
  return candidates;
}

}  // namespace perpend
