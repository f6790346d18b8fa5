#include "perpend/kernels/cuda/decode_image.h"

#include <algorithm>
#include <array>
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

int rows_of(const Item& item, const Schedule& schedule) {
  return device::rows_of_item(item, schedule.shape.group_size());
}

std::vector<std::int64_t> items_of_sequences(const Schedule& schedule,
                                             const std::vector<Item>& items) {
  std::vector<std::int64_t> count(schedule.shape.sequences.size());
  for (const Item& item : items) ++count[static_cast<std::size_t>(item.sequence)];
  return count;
}

class Cutter {
 public:
  Cutter(const Schedule& schedule, DecodeImage& image) : schedule_(schedule), image_(image) {}

  void run() {
    const std::vector<Item> uncut = std::exchange(image_.lists.items, {});
    const std::vector<std::int64_t> counts = items_of_sequences(schedule_, uncut);
    for (const Item& item : uncut) {
      const int cuts = num_cuts({num_steps(item), rows_of(item, schedule_),
                                 counts[static_cast<std::size_t>(item.sequence)]},
                                image_.lists.keys);
      if (cuts == 1) {
        image_.lists.items.push_back(item);
      } else {
        cut(item, cuts);
      }
    }
    const auto longer = [](const Item& a, const Item& b) { return num_steps(a) > num_steps(b); };
    std::ranges::stable_sort(image_.lists.items, longer);
  }

 private:
  void cut(const Item& item, int count) {
    const std::int64_t steps = num_steps(item);
    const int rows = rows_of(item, schedule_);
    for (std::int64_t c = 0; c < count; ++c) {
      Item piece = piece_of(item, c * steps / count, (c + 1) * steps / count);
      piece.split_row = next_row(rows);
      if (c == 0) image_.sums.push_back({piece, count});
      image_.lists.items.push_back(piece);
    }
    image_.sum_rows = std::max(image_.sum_rows, rows);
  }

  Item piece_of(Item item, std::int64_t begin, std::int64_t end) const {
    const std::int64_t partial_end = item.num_partial;
    item.num_partial =
        static_cast<std::int32_t>(std::min(end, partial_end) - std::min(begin, partial_end));
    item.num_full = static_cast<std::int32_t>(end - begin) - item.num_partial;
    item.list_begin += static_cast<std::int32_t>(begin);
    item.first = image_.lists.steps[static_cast<std::size_t>(item.list_begin)];
    return item;
  }

  std::int32_t next_row(int rows) {
    constexpr std::int64_t kMost = std::int64_t{1} << 31;
    const auto row = static_cast<std::int32_t>(image_.split_rows);
    image_.split_rows += rows;
    check(image_.split_rows < kMost, "attention: a plan cuts its lists into more than 2^31 rows");
    return row;
  }

  const Schedule& schedule_;
  DecodeImage& image_;
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
                              FunctionRef<bool(const WorkItem&)> takes) {
  DecodeImage image;
  image.lists = make_schedule_image(schedule, head_dim, {takes, kDecodeBoxRows});
  Cutter(schedule, image).run();
  return image;
}

DecodeImage make_decode_image(const Schedule& schedule, int head_dim) {
  return make_decode_image(schedule, head_dim, [](const WorkItem& /*item*/) { return true; });
}

PlanCapacity size_of(const DecodeImage& image) {
  return {.items = static_cast<std::int64_t>(image.lists.items.size()),
          .sums = static_cast<std::int64_t>(image.sums.size()),
          .steps = static_cast<std::int64_t>(image.lists.steps.size()),
          .sub_tiles = static_cast<std::int64_t>(image.lists.sub_tiles.size()),
          .bitmaps = num_bitmaps(image.lists),
          .split_rows = image.split_rows,
          .sum_rows = image.sum_rows};
}

}  // namespace perpend
