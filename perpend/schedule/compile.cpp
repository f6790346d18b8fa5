#include <algorithm>
#include <map>
#include <numeric>
#include <unordered_map>

#include "perpend/core/error.h"
#include "perpend/mask/mask_node.h"
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

// Fills the lists of one schedule, query tile by query tile.
class Compiler {
 public:
  Compiler(const Mask& mask, const Tiling& tiling, Schedule& schedule)
      : mask_(mask), tiling_(tiling), schedule_(schedule) {}

  // Appends the key list of query rows [q_begin, q_begin + q_rows) of `sequence`.
  void add_row(const SequenceShape& sequence, std::int64_t q_begin, std::int64_t q_rows) {
    queries_ = {sequence.q_offset + q_begin, sequence.q_offset + q_begin + q_rows};
    kv_len_ = sequence.kv_len;
    full_.clear();
    descend({0, ceil_div(kv_len_, tiling_.kv_tile)});
    schedule_.entries.insert(schedule_.entries.end(), full_.begin(), full_.end());
    schedule_.row_indptr.push_back(static_cast<std::int64_t>(schedule_.entries.size()));
  }

 private:
  Range keys_of(Range tiles) const {
    return {tiles.begin * tiling_.kv_tile, std::min(tiles.end * tiling_.kv_tile, kv_len_)};
  }

  // Halves the range of key tiles until each part is dead, wholly live, or one tile.
  void descend(Range tiles) {
    if (tiles.empty()) return;
    const Answer answer = mask_.answer(queries_, keys_of(tiles));
    if (answer == Answer::kNone) return;
    if (answer == Answer::kAll) {
      for (std::int64_t tile = tiles.begin; tile < tiles.end; ++tile) add_full(tile);
      return;
    }
    if (tiles.size() == 1) return add_tile(tiles.begin);
    const std::int64_t middle = (tiles.begin + tiles.end) / 2;
    descend({tiles.begin, middle});
    descend({middle, tiles.end});
  }

  void add_full(std::int64_t tile) {
    full_.push_back({static_cast<std::int32_t>(tile * tiling_.kv_tile), TileEntry::kFull});
  }

  // A tile that the answers could not decide: its bits, from an equal tile when one was seen.
  void add_tile(std::int64_t tile) {
    const Range keys = keys_of({tile, tile + 1});
    class_key_ = {queries_.size(), keys.size()};
    append_tile_class(mask_, queries_, keys, class_key_);
    auto found = by_class_.find(class_key_);
    if (found == by_class_.end()) found = by_class_.emplace(class_key_, evaluate(keys)).first;
    if (found->second == kDead) return;
    if (found->second == TileEntry::kFull) return add_full(tile);
    schedule_.entries.push_back({static_cast<std::int32_t>(tile * tiling_.kv_tile), found->second});
  }

  // Index of the tile's bitmap, kFull when every pair is live, kDead when none is.
  std::int32_t evaluate(Range keys) {
    std::vector<std::uint64_t> words(schedule_.bitmaps.words_per_tile());
    const int words_per_row = schedule_.bitmaps.words_per_row();
    bool any = false;
    bool all = true;
    for (std::int64_t row = 0; row < queries_.size(); ++row) {
      for (int w = 0; w < words_per_row; ++w) {
        const std::int64_t begin = keys.begin + 64 * w;
        const std::int64_t count = std::clamp<std::int64_t>(keys.end - begin, 0, 64);
        if (count == 0) break;
        const std::uint64_t inside =
            count == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
        const std::uint64_t bits = mask_.word(queries_.begin + row, begin) & inside;
        words[static_cast<std::size_t>(row * words_per_row + w)] = bits;
        any |= bits != 0;
        all &= bits == inside;
      }
    }
    if (!any) return kDead;
    return all ? TileEntry::kFull : schedule_.bitmaps.add(words);
  }

  static constexpr std::int32_t kDead = -2;

  const Mask& mask_;
  const Tiling& tiling_;
  Schedule& schedule_;
  Range queries_;
  std::int64_t kv_len_ = 0;
  std::vector<TileEntry> full_;
  std::vector<std::int64_t> class_key_;
  std::unordered_map<std::vector<std::int64_t>, std::int32_t, ClassHash> by_class_;
};

void check_shape(const AttentionShape& shape, const Tiling& tiling) {
  check(tiling.q_tile > 0 && tiling.kv_tile > 0, "schedule: tiles must be positive");
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
  std::vector<float> cost(static_cast<std::size_t>(schedule.num_rows()));
  for (std::int32_t row = 0; row < schedule.num_rows(); ++row) {
    cost[static_cast<std::size_t>(row)] = item_cost(schedule.row(row));
  }
  std::stable_sort(
      schedule.items.begin(), schedule.items.end(), [&](const WorkItem& a, const WorkItem& b) {
        return cost[static_cast<std::size_t>(a.row)] > cost[static_cast<std::size_t>(b.row)];
      });
}

}  // namespace

Schedule compile(const Mask& mask, const AttentionShape& shape, const Tiling& tiling) {
  check_shape(shape, tiling);
  Schedule schedule;
  schedule.shape = shape;
  schedule.tiling = tiling;
  schedule.bitmaps = TileBitmaps(tiling.q_tile, tiling.kv_tile);
  schedule.row_indptr.push_back(0);
  Compiler compiler(mask, tiling, schedule);
  // Equal sequences share their rows.
  std::map<std::tuple<std::int64_t, std::int64_t, std::int64_t>, std::int32_t> first_rows;
  const int group = shape.group_size();
  for (std::size_t s = 0; s < shape.sequences.size(); ++s) {
    const SequenceShape& sequence = shape.sequences[s];
    const auto [known, is_new] = first_rows.try_emplace(
        {sequence.q_len, sequence.kv_len, sequence.q_offset}, schedule.num_rows());
    for (std::int64_t begin = 0; begin < sequence.q_len; begin += tiling.q_tile) {
      const std::int64_t rows = std::min<std::int64_t>(tiling.q_tile, sequence.q_len - begin);
      if (is_new) compiler.add_row(sequence, begin, rows);
      const auto row = known->second + static_cast<std::int32_t>(begin / tiling.q_tile);
      for (int kv_head = 0; kv_head < shape.num_kv_heads; ++kv_head) {
        schedule.items.push_back({static_cast<std::int32_t>(s), kv_head * group, group,
                                  static_cast<std::int32_t>(begin), static_cast<std::int32_t>(rows),
                                  row});
      }
    }
  }
  if (schedule.num_rows() > 1) sort_items(schedule);
  return schedule;
}

}  // namespace perpend
