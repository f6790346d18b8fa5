#include <algorithm>
#include <map>
#include <tuple>
#include <unordered_map>

#include "perpend/core/error.h"
#include "perpend/schedule/cost.h"
#include "perpend/schedule/schedule.h"

namespace perpend {
namespace {

struct ClassHash {
  std::size_t operator()(const std::vector<std::int64_t>& key) const {
    std::uint64_t hash = key.size();
    for (const std::int64_t part : key) {
      hash = (hash ^ static_cast<std::uint64_t>(part)) * 0x9E3779B97F4A7C15U;
      hash ^= hash >> 31;
    }
    return hash;
  }
};

// Where the two axes of a sweep begin, in absolute positions.
struct Axes {
  std::int64_t outer_offset = 0;
  std::int64_t outer_len = 0;
  std::int64_t inner_offset = 0;
  std::int64_t inner_len = 0;
};

Axes axes_of(const SequenceShape& sequence, Sweep sweep) {
  if (sweep == Sweep::kRows) return {sequence.q_offset, sequence.q_len, 0, sequence.kv_len};
  return {0, sequence.kv_len, sequence.q_offset, sequence.q_len};
}

// Fills the lists of one head of one sequence, outer tile by outer tile.
class ListBuilder {
 public:
  ListBuilder(const BoundMask& mask, const Axes& axes, Schedule& schedule)
      : mask_(mask), axes_(axes), schedule_(schedule), inner_tile_(schedule.plan.inner_tile) {}

  // Appends the list of outer rows [begin, begin + size).
  void add_list(std::int64_t begin, std::int64_t size) {
    outer_ = {axes_.outer_offset + begin, axes_.outer_offset + begin + size};
    const auto first = static_cast<std::int64_t>(schedule_.entries.size());
    full_.clear();
    for (std::int64_t inner = 0; inner < axes_.inner_len;) inner = add_from(inner);
    schedule_.entries.insert(schedule_.entries.end(), full_.begin(), full_.end());
    schedule_.lists.push_back({first, static_cast<std::int64_t>(schedule_.entries.size())});
  }

 private:
  Range absolute(std::int64_t begin, std::int64_t end) const {
    return {axes_.inner_offset + begin, axes_.inner_offset + end};
  }

  // Handles the tile at `inner` or, when one answer reaches further, the tiles up to there; returns
  // where to go on.
  std::int64_t add_from(std::int64_t inner) {
    const auto stretch = mask_.stretch(schedule_.sweep, outer_, absolute(inner, axes_.inner_len));
    const std::int64_t reach = stretch.end - axes_.inner_offset;
    // Whole tiles of one answer; the last tile of a sequence is whole when the sequence ends there.
    const std::int64_t whole =
        reach == axes_.inner_len ? reach : floor_div(reach, inner_tile_) * inner_tile_;
    if (stretch.answer == Answer::kSome || whole <= inner) {
      add_tile(inner);
      return inner + inner_tile_;
    }
    if (stretch.answer == Answer::kAll) {
      for (; inner < whole; inner += inner_tile_) add_full(inner);
    }
    return whole;
  }

  void add_full(std::int64_t inner) {
    full_.push_back({static_cast<std::int32_t>(inner), TileEntry::kFull});
  }

  // A tile that no answer decides: its bits, from an equal tile when one was seen.
  void add_tile(std::int64_t inner) {
    const Range tile = absolute(inner, std::min(inner + inner_tile_, axes_.inner_len));
    class_key_ = {outer_.size(), tile.size()};
    mask_.append_class(schedule_.sweep, outer_, tile, class_key_);
    auto found = by_class_.find(class_key_);
    if (found == by_class_.end()) found = by_class_.emplace(class_key_, evaluate(tile)).first;
    if (found->second == kDead) return;
    if (found->second == TileEntry::kFull) return add_full(inner);
    schedule_.entries.push_back({static_cast<std::int32_t>(inner), found->second});
  }

  // Index of the tile's bitmap, kFull when every pair is live, kDead when none is.
  std::int32_t evaluate(Range tile) {
    std::vector<std::uint64_t> words(schedule_.bitmaps.words_per_tile());
    const int words_per_row = schedule_.bitmaps.words_per_row();
    bool any = false;
    bool all = true;
    for (std::int64_t row = 0; row < outer_.size(); ++row) {
      for (int w = 0; w < words_per_row; ++w) {
        const std::int64_t begin = tile.begin + 64 * w;
        const std::int64_t count = std::clamp<std::int64_t>(tile.end - begin, 0, 64);
        if (count == 0) break;
        const std::uint64_t inside =
            count == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
        const std::uint64_t bits = mask_.word(schedule_.sweep, outer_.begin + row, begin) & inside;
        words[static_cast<std::size_t>(row * words_per_row + w)] = bits;
        any |= bits != 0;
        all &= bits == inside;
      }
    }
    if (!any) return kDead;
    return all ? TileEntry::kFull : schedule_.bitmaps.add(words);
  }

  static constexpr std::int32_t kDead = -2;

  const BoundMask& mask_;
  Axes axes_;
  Schedule& schedule_;
  std::int64_t inner_tile_;
  Range outer_;
  std::vector<TileEntry> full_;
  std::vector<std::int64_t> class_key_;
  std::unordered_map<std::vector<std::int64_t>, std::int32_t, ClassHash> by_class_;
};

void check_shape(const AttentionShape& shape, const Tiling& tiling, std::size_t num_masks) {
  check(tiling.outer_tile > 0 && tiling.inner_tile > 0, "schedule: tiles must be positive");
  check(num_masks == 1 || num_masks == shape.sequences.size(),
        concat("schedule: expected one mask or one a sequence (", num_masks, " masks, ",
               shape.sequences.size(), " sequences)"));
  check(shape.num_q_heads > 0 && shape.num_kv_heads > 0 &&
            shape.num_q_heads % shape.num_kv_heads == 0,
        concat("schedule: query heads must be a positive multiple of key/value heads (",
               shape.num_q_heads, " vs ", shape.num_kv_heads, ")"));
  constexpr std::int64_t kMax = std::int64_t{1} << 30;
  for (const SequenceShape& sequence : shape.sequences) {
    check(sequence.q_len >= 0 && sequence.q_len < kMax && sequence.kv_len >= 0 &&
              sequence.kv_len < kMax && sequence.q_offset >= 0 && sequence.q_offset < kMax,
          concat("schedule: q_len, kv_len and q_offset must be in [0, 2^30) (", sequence.q_len,
                 ", ", sequence.kv_len, ", ", sequence.q_offset, ")"));
  }
}

// Longest first, so that the last items to start are short (hopper-style LPT order); items of equal
// cost keep the order of heads and rows, in which they share keys.
void sort_items(Schedule& schedule) {
  if (schedule.items.size() < 2) return;
  std::vector<float> cost(schedule.lists.size());
  for (std::size_t list = 0; list < cost.size(); ++list) {
    cost[list] = list_cost(schedule, static_cast<std::int32_t>(list));
  }
  std::stable_sort(
      schedule.items.begin(), schedule.items.end(), [&](const WorkItem& a, const WorkItem& b) {
        return cost[static_cast<std::size_t>(a.list)] > cost[static_cast<std::size_t>(b.list)];
      });
}

}  // namespace

Schedule compile(std::span<const Mask> masks, const AttentionShape& shape, const Tiling& tiling,
                 Sweep sweep) {
  check_shape(shape, tiling, masks.size());
  Schedule schedule;
  schedule.sweep = sweep;
  schedule.shape = shape;
  schedule.tiling = tiling;
  schedule.plan = {tiling.outer_tile, tiling.outer_tile, tiling.inner_tile,
                   tiling.inner_tile, /*packed=*/true,   /*aligned=*/false};
  schedule.bitmaps = TileBitmaps(schedule.plan.outer_tile, schedule.plan.inner_tile);
  // Equal sequences share their lists.
  std::map<std::tuple<std::string, std::int64_t, std::int64_t, std::int64_t>, std::int32_t> known;
  const int group = shape.group_size();
  for (std::size_t s = 0; s < shape.sequences.size(); ++s) {
    const SequenceShape& sequence = shape.sequences[s];
    const Mask& mask = masks[masks.size() == 1 ? 0 : s];
    const BoundMask bound(mask);
    const Axes axes = axes_of(sequence, sweep);
    const auto [first, is_new] =
        known.try_emplace({mask.str(), sequence.q_len, sequence.kv_len, sequence.q_offset},
                          static_cast<std::int32_t>(schedule.lists.size()));
    ListBuilder builder(bound, axes, schedule);
    const int outer_tile = schedule.plan.outer_tile;
    for (std::int64_t begin = 0; begin < axes.outer_len; begin += outer_tile) {
      const std::int64_t size = std::min<std::int64_t>(outer_tile, axes.outer_len - begin);
      if (is_new) builder.add_list(begin, size);
      for (int kv_head = 0; kv_head < shape.num_kv_heads; ++kv_head) {
        schedule.items.push_back({static_cast<std::int32_t>(s), kv_head * group, group,
                                  static_cast<std::int32_t>(begin), static_cast<std::int32_t>(size),
                                  first->second + static_cast<std::int32_t>(begin / outer_tile)});
      }
    }
  }
  sort_items(schedule);
  return schedule;
}

Schedule compile(const Mask& mask, const AttentionShape& shape, const Tiling& tiling, Sweep sweep) {
  return compile(std::span(&mask, 1), shape, tiling, sweep);
}

}  // namespace perpend
