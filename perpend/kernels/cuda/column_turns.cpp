#include "perpend/kernels/cuda/column_turns.h"

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <queue>
#include <span>
#include <utility>

namespace perpend {
namespace {

using device::KeyItem;
using device::KeyStep;
using device::kStepStrips;
using device::kStripQueries;
using device::QueryTurns;
using device::Step;

// The model of waiting, in steps.
constexpr double kTurnSteps =
    0.6;  // from the begin of an addition to that of the next at its strip
constexpr double kItemSteps = 1.3;                           // start and end of an item
constexpr std::size_t kMostModelled = std::size_t{1} << 18;  // what follows goes on as before

// A step, and the strips that its warps add to, counted inside their sequence.
struct StripStep {
  KeyStep step;
  std::array<std::int32_t, kStepStrips> strips;

  // Rises with the position, then with the head.
  std::int64_t place() const { return (std::int64_t{strips[0]} << 32) + step.head; }
};

std::size_t num_steps(const KeyItem& item) {
  return static_cast<std::size_t>(item.num_partial) + static_cast<std::size_t>(item.num_full);
}
template <class T>
std::span<T> steps_of(const KeyItem& item, std::vector<T>& steps) {
  return std::span(steps).subspan(static_cast<std::size_t>(item.list_begin), num_steps(item));
}

// The first of the queries of a strip; kNone: a box that is not there would hold them.
std::int32_t strip_position(const ColumnImage& image, Step step, int strip) {
  const int column = strip * kStripQueries;
  if ((step.flags & Step::kIsGathered) == 0) return step.begin + column;
  const auto last_box = static_cast<int>(step.flags >> Step::kBoxesShift & Step::kBoxesMask);
  const int box = column / image.box_rows;
  if (box > last_box) return QueryTurns::kNone;
  const auto first_box = static_cast<std::size_t>(step.begin);
  return image.sub_tiles[first_box + static_cast<std::size_t>(box)] + column % image.box_rows;
}

// Nothing when a step begins inside of a strip.
std::optional<std::vector<StripStep>> strip_steps(const ColumnImage& image) {
  std::vector<StripStep> steps;
  steps.reserve(image.steps.size());
  for (const KeyStep& step : image.steps) {
    steps.push_back({step, {}});
    for (int i = 0; i < kStepStrips; ++i) {
      const std::int32_t position = strip_position(image, step.step, i);
      if (position > 0 && position % kStripQueries != 0) return std::nullopt;
      steps.back().strips[static_cast<std::size_t>(i)] =
          position < 0 ? QueryTurns::kNone : position / kStripQueries;
    }
  }
  return steps;
}

// Calls body(steps) for each list of the items, once where they share it.
template <class Body>
void for_lists(const std::vector<KeyItem>& items, std::vector<StripStep>& steps, Body body) {
  std::vector<char> is_done(steps.size());
  for (const KeyItem& item : items) {
    if (num_steps(item) == 0) continue;
    if (std::exchange(is_done[static_cast<std::size_t>(item.list_begin)], 1) != 0) continue;
    body(steps_of(item, steps));
  }
}

// How items follow each other, and each of them its steps.
struct Order {
  std::vector<KeyItem> items;
  bool is_upward;
};

// Items add to the same strips only if they are of one key head of a sequence.
using KeyHead = std::pair<std::int32_t, std::int32_t>;
KeyHead key_head_of(const KeyItem& item) { return {item.sequence, item.kv_head}; }

// As few key heads at a time as fill num_rows.
std::vector<KeyItem> by_heads(const ColumnImage& image, int group_size, std::int64_t num_rows) {
  std::map<KeyHead, std::int64_t> sections;
  std::int64_t rows = 0;
  for (const KeyItem& item : image.items) {
    if (!sections.try_emplace(key_head_of(item), rows / std::max<std::int64_t>(num_rows, 1))
             .second) {
      continue;
    }
    rows += std::int64_t{item.q_len} * group_size;
  }
  std::vector<KeyItem> items = image.items;
  std::ranges::stable_sort(items, {},
                           [&](const KeyItem& item) { return sections.at(key_head_of(item)); });
  return items;
}

// Of items that cost about the same the same tile of all heads, so that fewer of one head run at a
// time.
std::vector<KeyItem> by_tile(const ColumnImage& image) {
  constexpr std::size_t kAlike = 4;
  std::vector<KeyItem> items = image.items;
  std::ranges::stable_sort(items, {}, [](const KeyItem& item) {
    return std::pair(~(num_steps(item) / kAlike), item.k_begin);
  });
  return items;
}

// Those worth a try, the best first where waiting is the same: what few heads add to stays in L2.
std::vector<Order> orders(const ColumnImage& image, int group_size, std::int64_t num_rows) {
  return {{by_heads(image, group_size, num_rows), false},
          {image.items, false},
          {by_tile(image), false},
          {by_tile(image), true}};
}

// A launch of CTAs that take items in their order, with and without turns.
class LaunchModel {
 public:
  LaunchModel(const ColumnImage& image, int group_size, int num_ctas)
      : group_size_(group_size),
        num_blocks_(first_block(std::ssize(image.q_indptr), image.q_indptr.back())),
        num_ctas_(static_cast<std::size_t>(num_ctas)) {
    for (const KeyItem& item : image.items) {
      num_kv_heads_ = std::max<std::int64_t>(num_kv_heads_, item.kv_head + 1);
    }
  }

  // How many times as long the launch takes with turns.
  double slowdown(std::span<const KeyItem> items, std::vector<StripStep>& steps) {
    free_.assign(static_cast<std::size_t>(num_kv_heads_ * group_size_ * num_blocks_), 0.0F);
    Ctas waiting({}, std::vector<double>(num_ctas_));
    Ctas unhindered = waiting;
    std::size_t num_modelled = 0;
    double end = 0;
    double unhindered_end = 0;
    for (const KeyItem& item : items) {
      end = std::max(end, take(waiting, [&](double start) { return walk(item, steps, start); }));
      unhindered_end = std::max(unhindered_end, take(unhindered, [&](double start) {
                                  return start + static_cast<double>(num_steps(item));
                                }));
      num_modelled += num_steps(item);
      if (num_modelled > kMostModelled) break;
    }
    return unhindered_end > 0 ? end / unhindered_end : 1;
  }

 private:
  using Ctas = std::priority_queue<double, std::vector<double>, std::greater<>>;

  // An item of whoever is free first.
  template <class Run>
  static double take(Ctas& ctas, Run run) {
    const double end = run(ctas.top()) + kItemSteps;
    ctas.pop();
    ctas.push(end);
    return end;
  }

  double walk(const KeyItem& item, std::vector<StripStep>& steps, double time) {
    float* const first = free_.data() + item.kv_head * group_size_ * num_blocks_ +
                         first_block(item.sequence, item.q_base);
    for (const StripStep& step : steps_of(item, steps)) {
      float* const of_head = first + step.step.head * num_blocks_;
      for_blocks(step, item.q_len,
                 [&](std::int64_t block) { time = std::max<double>(time, of_head[block]); });
      for_blocks(step, item.q_len, [&](std::int64_t block) {
        of_head[block] = static_cast<float>(time + kTurnSteps);
      });
      time += 1;
    }
    return time;
  }

  // Of as many queries as a step has: strips of one of them mostly have their turns together.
  static std::int64_t first_block(std::int64_t sequence, std::int64_t queries_before) {
    return queries_before / device::kGradientQueries + sequence;
  }
  template <class Body>
  static void for_blocks(const StripStep& step, std::int32_t q_len, Body body) {
    std::int32_t last = -1;
    for (const std::int32_t strip : step.strips) {
      if (strip < 0 || strip * kStripQueries >= q_len || strip / kStepStrips == last) continue;
      last = strip / kStepStrips;
      body(last);
    }
  }

  std::int64_t group_size_;
  std::int64_t num_blocks_;
  std::size_t num_ctas_;
  std::int64_t num_kv_heads_ = 0;
  std::vector<float> free_;  // [heads, blocks]: when the next may add
};

// Gives items that come in this order their turns. Key heads that go through the same lists share
// theirs.
class TurnCounter {
 public:
  TurnCounter(std::vector<KeyItem> items, std::vector<StripStep>& steps, int group_size)
      : steps_(steps) {
    turns_.items = std::move(items);
    std::int32_t last = 0;
    for (const StripStep& step : steps) last = std::max(last, std::ranges::max(step.strips));
    num_strips_ = static_cast<std::size_t>(last) + 1;
    counts_.resize(static_cast<std::size_t>(group_size) * num_strips_);
    for (KeyItem& item : turns_.items) heads_[key_head_of(item)].push_back(&item);
  }

  // Nothing when that would be too many steps.
  std::optional<ColumnTurns> count() {
    std::map<std::vector<std::int32_t>, std::vector<std::int32_t>> counted;
    for (auto& [of, items] : heads_) {
      std::vector<std::int32_t> lists;
      for (const KeyItem* item : items) lists.push_back(item->list_begin);
      const auto [begins, is_new] = counted.try_emplace(std::move(lists));
      if (is_new) {
        for (const KeyItem* item : items) begins->second.push_back(add_list(*item));
        for (const KeyItem* item : items) forget(*item);
      }
      if (turns_.steps.size() > kMostSteps) return std::nullopt;
      for (std::size_t i = 0; i < items.size(); ++i) items[i]->list_begin = begins->second[i];
    }
    return std::move(turns_);
  }

 private:
  static constexpr std::size_t kMostSteps = std::size_t{1} << 22;

  std::int32_t add_list(const KeyItem& item) {
    const auto begin = static_cast<std::int32_t>(turns_.steps.size());
    for (const StripStep& step : steps_of(item, steps_)) {
      turns_.steps.push_back(step.step);
      std::int32_t* counts = counts_of(step);
      for (const std::int32_t strip : step.strips) {
        turns_.turns.push_back(strip < 0 ? QueryTurns::kNone : counts[strip]++);
      }
    }
    return begin;
  }
  // All counts are 0 again when this was called for all items.
  void forget(const KeyItem& item) {
    for (const StripStep& step : steps_of(item, steps_)) {
      for (const std::int32_t strip : step.strips) {
        if (strip >= 0) counts_of(step)[strip] = 0;
      }
    }
  }
  std::int32_t* counts_of(const StripStep& step) {
    return counts_.data() + static_cast<std::size_t>(step.step.head) * num_strips_;
  }

  std::vector<StripStep>& steps_;
  ColumnTurns turns_;
  std::size_t num_strips_ = 0;
  std::vector<std::int32_t> counts_;  // [heads of a group, strips]
  std::map<KeyHead, std::vector<KeyItem*>> heads_;
};

}  // namespace

std::optional<ColumnTurns> make_column_turns(const ColumnImage& image, int group_size,
                                             const TurnTakers& takers, double most_slowdown) {
  std::optional<std::vector<StripStep>> steps = strip_steps(image);
  if (!steps) return std::nullopt;
  for_lists(image.items, *steps, [](std::span<StripStep> list) {
    std::ranges::stable_sort(list, {}, &StripStep::place);
  });
  bool is_upward = true;
  const auto turn_to = [&](const Order& order) {
    if (std::exchange(is_upward, order.is_upward) == order.is_upward) return;
    for_lists(image.items, *steps, [](std::span<StripStep> list) { std::ranges::reverse(list); });
  };
  constexpr double kHardlySlower = 1.03;
  LaunchModel model(image, group_size, takers.num_ctas);
  std::optional<Order> best;
  double least = most_slowdown;
  for (Order& order : orders(image, group_size, takers.num_rows)) {
    turn_to(order);
    const double slowdown = model.slowdown(order.items, *steps);
    if (slowdown > least) continue;
    least = slowdown;
    best = std::move(order);
    if (slowdown <= kHardlySlower) break;
  }
  if (!best) return std::nullopt;
  turn_to(*best);
  std::optional<ColumnTurns> turns =
      TurnCounter(std::move(best->items), *steps, group_size).count();
  if (turns) turns->slowdown = least;
  return turns;
}

}  // namespace perpend
