#include "perpend/schedule/work_items.h"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>

namespace perpend {
namespace {

// The items of some heads of a sequence, one a tile.
struct ItemRun {
  WorkItem head;  // what they have in common, and the list of the first
  std::span<const Range> tiles;
  std::int32_t list_step = 1;  // from the list of one tile to that of the next
  float times = 1.0F;          // how often an item runs the steps of a list it has for all heads

  std::int32_t list(std::size_t tile) const {
    return head.list + static_cast<std::int32_t>(tile) * list_step;
  }
};

// Which items there are, and what they cost.
class ItemRuns {
 public:
  ItemRuns(const Problems& problems, const TilesOfProblems& laid, std::vector<float> costs,
           Schedule& schedule)
      : problems_(problems), laid_(laid), costs_(std::move(costs)), schedule_(schedule) {
    for (std::size_t s = 0; s < schedule.shape.sequences.size(); ++s) add_sequence(s);
  }

  // Calls body(item, cost) for each, by sequence, head and position.
  template <class Body>
  void for_each(Body body) const {
    for (const ItemRun& run : runs_) {
      WorkItem item = run.head;
      for (std::size_t tile = 0; tile < run.tiles.size(); ++tile) {
        item.begin = static_cast<std::int32_t>(run.tiles[tile].begin);
        item.size = static_cast<std::int32_t>(run.tiles[tile].size());
        item.list = run.list(tile);
        body(item, cost(run, item));
      }
    }
  }

 private:
  void add_sequence(std::size_t sequence) {
    const AttentionShape& shape = schedule_.shape;
    const bool columns = schedule_.sweep == Sweep::kColumns;
    const bool together = schedule_.plans[sequence].packed || columns;
    const int group = shape.group_size();
    for (int head = 0; head < shape.num_q_heads;) {
      const int group_end = (head / group + 1) * group;
      int end = together ? end_of_equals(sequence, head, group_end) : head + 1;
      const bool summed = columns && end != group_end;
      if (summed) end = group_end;
      const std::int32_t problem = problems_.of(sequence, head);
      ItemRun run{{static_cast<std::int32_t>(sequence), head, end - head}, laid_.of(problem)};
      run.head.list = summed ? lists_side_by_side(run) : laid_.list_of(problem);
      run.head.list_stride = summed ? 1 : 0;
      run.list_step = summed ? group : 1;
      run.times = columns ? static_cast<float>(end - head)
                          : static_cast<float>(schedule_.rows_of_part(run.head)) /
                                static_cast<float>(schedule_.tiling.outer_part);
      runs_.push_back(run);
      head = end;
    }
  }

  // Heads [q_head, end) of a group with the problem of q_head end here at the latest.
  int end_of_equals(std::size_t sequence, int q_head, int group_end) const {
    int end = q_head + 1;
    while (end < group_end && problems_.of(sequence, end) == problems_.of(sequence, q_head)) ++end;
    return end;
  }

  // Of a group whose heads differ, in a column sweep: names the lists of each tile again, one a
  // head, and returns the first.
  std::int32_t lists_side_by_side(const ItemRun& run) {
    const auto first = static_cast<std::int32_t>(schedule_.lists.size());
    for (std::size_t tile = 0; tile < run.tiles.size(); ++tile) {
      for (int head = run.head.q_head; head < run.head.q_head + run.head.num_heads; ++head) {
        const std::int32_t problem =
            problems_.of(static_cast<std::size_t>(run.head.sequence), head);
        const std::size_t list = static_cast<std::size_t>(laid_.list_of(problem)) + tile;
        const ListRange range = schedule_.lists[list];
        schedule_.lists.push_back(range);
        costs_.push_back(float{costs_[list]});
      }
    }
    return first;
  }

  // Modelled cost of an item: of its lists, as often as it runs them, and of itself.
  float cost(const ItemRun& run, const WorkItem& item) const {
    const auto first = static_cast<std::size_t>(item.list);
    float cost = costs_[first];
    if (item.list_stride == 0) cost *= run.times;
    for (int head = 1; head < item.num_heads * item.list_stride; ++head) {
      cost += costs_[first + static_cast<std::size_t>(head)];
    }
    return schedule_.tiling.costs.item + cost;
  }

  const Problems& problems_;
  const TilesOfProblems& laid_;
  std::vector<float> costs_;  // of the lists
  Schedule& schedule_;
  std::vector<ItemRun> runs_;
};

// What sorting asks of the costs first.
struct CostSummary {
  std::size_t num_items = 0;
  float longest = 0;
  float last = std::numeric_limits<float>::infinity();
  bool falls = true;

  explicit CostSummary(const ItemRuns& runs) {
    runs.for_each([this](const WorkItem&, float cost) {
      ++num_items;
      longest = std::max(longest, cost);
      falls &= cost <= last;
      last = cost;
    });
  }
};

// A counting sort, since a fraction of a tile, or a small part of the longest item, makes no
// difference: items are written where they belong.
void write_sorted(const ItemRuns& runs, float longest, std::vector<WorkItem>& items) {
  constexpr float kStepsOfATile = 32;
  constexpr std::size_t kMostSteps = 4096;
  const float scale = std::min(kStepsOfATile, static_cast<float>(kMostSteps - 1) / longest);
  const auto last = static_cast<std::int32_t>(longest * scale);
  // Falls as the cost rises.
  const auto step = [&](float cost) {
    return static_cast<std::size_t>(last - static_cast<std::int32_t>(cost * scale));
  };
  std::array<std::uint32_t, kMostSteps> place{};
  runs.for_each([&](const WorkItem&, float cost) { ++place[step(cost)]; });
  std::exclusive_scan(place.begin(), place.begin() + last + 1, place.begin(), 0U);
  runs.for_each([&](const WorkItem& item, float cost) { items[place[step(cost)]++] = item; });
}

}  // namespace

void make_items(const Problems& problems, const TilesOfProblems& laid, std::vector<float> costs,
                bool sort, Schedule& schedule) {
  const ItemRuns runs(problems, laid, std::move(costs), schedule);
  const CostSummary summary(runs);
  if (sort && !summary.falls) {
    schedule.items.resize(summary.num_items);
    write_sorted(runs, summary.longest, schedule.items);
  } else {
    schedule.items.reserve(summary.num_items);
    runs.for_each([&](const WorkItem& item, float) { schedule.items.push_back(item); });
  }
}

}  // namespace perpend
