#include "perpend/kernels/cuda/decode_image.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "perpend/core/error.h"
#include "perpend/core/range.h"

namespace perpend {
namespace {

using device::Item;

constexpr std::int64_t kCtas = 132;  // of the largest GPU of its kind, each with one item at a time

// How a sequence is cut: into at most so many items, each of at least so many keys.
struct CutRule {
  std::int64_t most_items;
  std::int64_t least_keys;
  std::int64_t least_keys_of_row;
};
constexpr std::array<CutRule, 2> kCutRules = {{{kCtas, 256, 4}, {2 * kCtas, 1024, 32}}};

int num_steps(const Item& item) { return item.num_partial + item.num_full; }

// Cuts the items of an image.
class Cutter {
 public:
  Cutter(const Schedule& schedule, DecodeImage& image)
      : schedule_(schedule), image_(image), cuts_(image.lists.items.size(), 1) {}

  void run() {
    choose_cuts();
    find_places();
    image_.items.resize(static_cast<std::size_t>(std::reduce(cuts_.begin(), cuts_.end())));
    for (std::size_t i = 0; i < cuts_.size(); ++i) put(image_.lists.items[i], cuts_[i]);
  }

 private:
  void choose_cuts() {
    std::vector<std::int64_t> items_of_sequence(schedule_.shape.sequences.size());
    for (const Item& item : image_.lists.items) {
      ++items_of_sequence[static_cast<std::size_t>(item.sequence)];
    }
    UncutItem before;
    int cuts = 1;
    for (std::size_t i = 0; i < cuts_.size(); ++i) {
      const Item& item = image_.lists.items[i];
      const UncutItem uncut{num_steps(item), rows_of(item),
                            items_of_sequence[static_cast<std::size_t>(item.sequence)]};
      // Heads of a sequence are alike and follow each other.
      if (uncut != before) cuts = num_cuts(uncut, image_.lists.keys);
      cuts_[i] = cuts;
      before = uncut;
    }
  }

  // Longest first; those of one length stay in their order.
  void find_places() {
    for (std::size_t i = 0; i < cuts_.size(); ++i) {
      const int steps = num_steps(image_.lists.items[i]);
      const auto shorter = static_cast<std::size_t>(steps / cuts_[i]);
      if (next_place_.size() < shorter + 2) next_place_.resize(shorter + 2);
      const int num_longer = steps % cuts_[i];
      next_place_[shorter] += cuts_[i] - num_longer;
      next_place_[shorter + 1] += num_longer;
    }
    std::exclusive_scan(next_place_.rbegin(), next_place_.rend(), next_place_.rbegin(), 0);
  }

  void put(const Item& item, int cuts) {
    if (cuts == 1) {
      place_for(num_steps(item)) = item;
      return;
    }
    const int rows = rows_of(item);
    const std::int64_t steps = num_steps(item);
    for (std::int64_t c = 0, begin = 0; c < cuts; ++c) {
      const std::int64_t end = (c + 1) * steps / cuts;
      Item& piece = place_for(static_cast<int>(end - begin));
      piece = item;
      take_steps(begin, end, piece);
      piece.split_row = next_row(rows);
      for (int row = 0; c == 0 && row < rows; row += device::kRowsOfSumCta) {
        image_.sums.push_back({piece, cuts, row});
      }
      begin = end;
    }
  }

  Item& place_for(int steps) {
    const int place = next_place_[static_cast<std::size_t>(steps)]++;
    return image_.items[static_cast<std::size_t>(place)];
  }

  // Leaves an item steps [begin, end) of its list.
  void take_steps(std::int64_t begin, std::int64_t end, Item& item) const {
    const std::int64_t partial_end = item.num_partial;
    item.num_partial =
        static_cast<std::int32_t>(std::min(end, partial_end) - std::min(begin, partial_end));
    item.num_full = static_cast<std::int32_t>(end - begin) - item.num_partial;
    item.list_begin += static_cast<std::int32_t>(begin);
    item.first = image_.lists.steps[static_cast<std::size_t>(item.list_begin)];
  }

  std::int32_t next_row(int rows) {
    constexpr std::int64_t kMost = std::int64_t{1} << 31;
    const auto row = static_cast<std::int32_t>(image_.split_rows);
    image_.split_rows += rows;
    check(image_.split_rows < kMost, "attention: a plan cuts its lists into more than 2^31 rows");
    return row;
  }

  int rows_of(const Item& item) const {
    return device::rows_of_item(item, schedule_.shape.group_size());
  }

  const Schedule& schedule_;
  DecodeImage& image_;
  std::vector<int> cuts_;        // of each item
  std::vector<int> next_place_;  // of the items of so many steps
};

std::int64_t num_bitmaps(const ScheduleImage& image) {
  return static_cast<std::int64_t>(image.bitmaps.size()) / device::fragment_words(image.keys);
}

}  // namespace

int num_cuts(const UncutItem& item, int keys_of_step) {
  std::int64_t cuts = 1;
  for (const CutRule& rule : kCutRules) {
    const std::int64_t keys = std::max(rule.least_keys, rule.least_keys_of_row * item.rows);
    cuts = std::max(cuts, std::min(item.steps / ceil_div(keys, std::int64_t{keys_of_step}),
                                   rule.most_items / item.items_of_sequence));
  }
  return static_cast<int>(cuts);
}

std::int64_t most_pieces(std::int64_t items, std::int64_t steps, int keys_of_step) {
  std::int64_t pieces = items;
  for (const CutRule& rule : kCutRules) {
    const std::int64_t cuts = steps / ceil_div(rule.least_keys, std::int64_t{keys_of_step});
    pieces = std::max(pieces, std::min(rule.most_items, items * cuts));
  }
  return pieces;
}

std::int64_t most_items_cut(std::int64_t items, std::int64_t steps, int keys_of_step) {
  return most_pieces(1, steps, keys_of_step) == 1 ? 0 : std::min(items, kCtas);
}

bool has_few_rows(const Schedule& schedule, std::int32_t sequence) {
  constexpr std::int64_t kLeastKeys = 512;
  constexpr std::int64_t kLeastKeysOfQuery = 16;
  const auto s = static_cast<std::size_t>(sequence);
  const SequenceShape& shape = schedule.shape.sequences[s];
  return shape.q_len <= schedule.plans[s].outer_tile &&
         shape.kv_len >= std::max(kLeastKeys, kLeastKeysOfQuery * shape.q_len);
}

DecodeImage make_decode_image(const Schedule& schedule, int head_dim,
                              FunctionRef<bool(const WorkItem&)> takes, DecodeImage memory) {
  DecodeImage image = std::move(memory);
  image.sums.clear();
  image.split_rows = 0;
  // Parts of this kernel always test whether they have a step.
  image.lists = make_schedule_image(schedule, head_dim,
                                    {.takes = takes,
                                     .box_rows = kDecodeBoxRows,
                                     .part_skips = PartSkips::kAlways,
                                     .keeps_order = true},
                                    std::move(image.lists));
  Cutter(schedule, image).run();
  return image;
}

DecodeImage make_decode_image(const Schedule& schedule, int head_dim, DecodeImage memory) {
  const auto every = [](const WorkItem& /*item*/) { return true; };
  return make_decode_image(schedule, head_dim, every, std::move(memory));
}

PlanCapacity size_of(const DecodeImage& image) {
  return {.items = static_cast<std::int64_t>(image.items.size()),
          .sums = static_cast<std::int64_t>(image.sums.size()),
          .steps = static_cast<std::int64_t>(image.lists.steps.size()),
          .sub_tiles = static_cast<std::int64_t>(image.lists.sub_tiles.size()),
          .bitmaps = num_bitmaps(image.lists),
          .split_rows = image.split_rows};
}

}  // namespace perpend
