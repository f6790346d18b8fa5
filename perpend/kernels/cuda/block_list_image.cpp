#include "perpend/kernels/cuda/block_list_image.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <set>

#include "perpend/core/demand.h"
#include "perpend/core/range.h"
#include "perpend/kernels/cuda/schedule_image.h"
#include "perpend/schedule/gpu_tiling.h"

namespace perpend {
namespace {

using device::BlockGeometry;
using device::kPartRows;
using device::kTileRows;
using device::Step;

constexpr const char* kWhat = "block attention: ";

void check_lengths(const BlockAttentionSpec& spec) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  demand(spec.batch > 0 && spec.q_len >= 0 && spec.kv_len >= 0 && spec.q_offset >= 0 &&
             spec.q_block > 0 && spec.kv_block > 0 && spec.max_blocks >= 0,
         kWhat, "lengths and sizes must not be negative, batch and blocks not be empty");
  demand(spec.batch * (spec.q_len + spec.q_block) < kMost &&
             spec.batch * (spec.kv_len + spec.kv_block) < kMost &&
             spec.q_offset + spec.q_len < kMost && spec.max_blocks < kMost,
         kWhat, "a batch must have less than 2^31 tokens");
}

void check_heads(const BlockAttentionSpec& spec) {
  demand(spec.num_kv_heads > 0 && spec.num_q_heads > 0 && spec.num_q_heads % spec.num_kv_heads == 0,
         kWhat, "num_q_heads must be a multiple of num_kv_heads (", spec.num_q_heads, " and ",
         spec.num_kv_heads, ")");
  demand(spec.num_list_heads == 1 || spec.num_list_heads == spec.num_kv_heads ||
             spec.num_list_heads == spec.num_q_heads,
         kWhat, "lists must be of each query head, of each key/value head or of all heads (",
         spec.num_list_heads, ")");
}

// `keys`: of a step.
void check_blocks(const BlockAttentionSpec& spec, int keys) {
  const std::int64_t block = spec.kv_block;
  demand(block % keys == 0 || (block < keys && block % 16 == 0 && keys % block == 0), kWhat,
         "kv_block must be 16, 32, 64 or a multiple of ", keys, " for head_dim ",
         spec.attention.head_dim, " (", block, ")");
  if (!spec.causal) return;
  demand(spec.q_offset + spec.q_len <= spec.kv_len, kWhat,
         "causal lists need a key at each query's position (q_offset ", spec.q_offset, " + q_len ",
         spec.q_len, " vs kv_len ", spec.kv_len, ")");
}

// Rows that the items of a query block compute, a head of a group each or all together.
struct RowChoice {
  bool is_packed = false;
  bool has_two_lists = false;
};
RowChoice choose_rows(const BlockAttentionSpec& spec) {
  const std::int64_t group = spec.num_q_heads / spec.num_kv_heads;
  const bool pairs = spec.q_block == kPartRows;
  const std::int64_t separate_rows =
      group * (pairs ? kPartRows : round_up(spec.q_block, kTileRows));
  const bool may_pack = group > 1 && group <= kPartRows && spec.num_list_heads <= spec.num_kv_heads;
  if (may_pack) {
    const std::int64_t queries = 2 * (kPartRows / group);
    const std::int64_t rows = ceil_div(spec.q_block, queries) * kTileRows;
    // Of two lists, parts skip steps, which costs what it saves.
    if (rows < separate_rows || (rows == separate_rows && pairs)) {
      return {.is_packed = true};
    }
  }
  return {.has_two_lists = pairs};
}

std::int32_t narrow(std::int64_t value) { return static_cast<std::int32_t>(value); }

// Room for the steps and the units of an item.
void set_room(BlockGeometry& g) {
  const std::int64_t list =
      std::min<std::int64_t>(std::int64_t{g.max_blocks} * g.units_per_block, g.num_units);
  const std::int64_t r = g.units_per_step();
  const std::int64_t units = g.lists_per_item * list;
  const std::int64_t ends = g.lists_per_item == 1 ? 1 : 3;  // steps that are not whole
  const std::int64_t steps = units / r + ends + g.lists_per_item * g.cuts_per_list;
  demand(g.num_items * std::max(steps, units) < std::numeric_limits<std::int32_t>::max(), kWhat,
         "a plan must have room for less than 2^31 blocks (", g.num_items, " items of ", units,
         "); lower max_blocks");
  g.steps_per_item = narrow(steps);
  g.units_per_item = r == 1 ? 0 : narrow(units);
}

BlockGeometry make_geometry(const BlockAttentionSpec& spec, int keys) {
  const RowChoice rows = choose_rows(spec);
  BlockGeometry g{};
  g.q_len = narrow(spec.q_len);
  g.kv_len = narrow(spec.kv_len);
  g.q_offset = narrow(spec.q_offset);
  g.q_block = narrow(spec.q_block);
  g.num_kv_heads = spec.num_kv_heads;
  g.num_list_heads = spec.num_list_heads;
  g.group_size = spec.num_q_heads / spec.num_kv_heads;
  g.max_blocks = narrow(spec.max_blocks);
  g.num_q_blocks = narrow(spec.num_q_blocks());
  g.num_kv_blocks = narrow(spec.num_kv_blocks());
  g.unit_rows = narrow(std::min<std::int64_t>(spec.kv_block, keys));
  g.units_per_step_log = std::countr_zero(static_cast<unsigned>(keys / g.unit_rows));
  g.units_per_block = narrow(spec.kv_block / g.unit_rows);
  g.num_units = narrow(ceil_div(spec.kv_len, g.unit_rows));
  g.is_packed = rows.is_packed;
  g.lists_per_item = rows.has_two_lists ? 2 : 1;
  g.item_queries = 2 * (kPartRows / g.heads_of_item());
  g.items_per_block = rows.has_two_lists ? 1 : narrow(ceil_div(spec.q_block, g.item_queries));
  if (spec.q_len > 0) {
    const std::int64_t before = rows.has_two_lists ? 0 : spec.num_q_blocks() - 1;
    g.items_per_head = narrow(before * g.items_per_block +
                              ceil_div(spec.q_len - before * spec.q_block, g.item_queries));
  }
  const std::int64_t items =
      spec.batch * spec.num_q_heads / g.heads_of_item() * std::int64_t{g.items_per_head};
  demand(items < std::numeric_limits<std::int32_t>::max(), kWhat,
         "a plan must have less than 2^31 items");
  g.num_items = narrow(items);
  g.causal = spec.causal;
  if (spec.causal) {
    g.cuts_per_list = narrow(
        ceil_div(ceil_div(g.queries_of_list() + g.unit_rows - 1, g.unit_rows), g.units_per_step()));
  }
  set_room(g);
  return g;
}

// Makes the flags of steps, and bitmaps for those that are not full.
class FlagsMaker {
 public:
  FlagsMaker(BlockListImage& image, int keys) : image_(image), g_(image.geometry), keys_(keys) {}

  // Steps whose columns end.
  void add_ends() {
    image_.flags.assign(static_cast<std::size_t>(g_.num_flags()), 0);
    const bool parts_differ = g_.lists_per_item == 2 && !image_.skips_parts;
    for (std::uint32_t parts = 1; parts <= Step::kBothParts; ++parts) {
      const auto rows =
          rows_of(parts_differ ? parts : Step::kBothParts, [](int row) { return row; });
      for (int boxes = 1; boxes <= g_.units_per_step(); ++boxes) {
        for (const bool has_tail : {false, true}) {
          const int columns =
              (boxes - 1) * g_.unit_rows + (has_tail ? g_.tail_rows() : g_.unit_rows);
          const bool is_whole = columns == keys_ && !(parts_differ && parts != Step::kBothParts);
          const std::uint32_t flags =
              is_whole ? all_halves()
                       : add(rows, [&](int, int column) { return column < columns; });
          image_.flags[static_cast<std::size_t>(g_.flags_index(parts, boxes, has_tail))] =
              flags & (halves_of(parts) | ~kHalvesMask);
        }
      }
    }
  }

  void add_cuts() {
    image_.cut_flags.assign(static_cast<std::size_t>(g_.num_cut_flags()), 0);
    for (int list = 0; list < g_.lists_per_item; ++list) {
      const auto queries = queries_of_rows(g_.heads_of_item());
      const auto rows = rows_of(g_.parts_of_list(list), [&](int row) {
        const int query = queries[static_cast<std::size_t>(row)];
        return query < 0 ? query : query % g_.queries_of_list();
      });
      for (const int phase : phases_of_lists()) add_cuts(list, phase, rows);
    }
  }

 private:
  using Rows = std::array<int, kTileRows>;

  static constexpr std::uint32_t halves_of(std::uint32_t parts) {
    return ((parts & 1U) != 0 ? 3U : 0U) << Step::kHalvesShift | ((parts & 2U) != 0 ? 12U : 0U)
                                                                     << Step::kHalvesShift;
  }
  static constexpr std::uint32_t kHalvesMask = 15U << Step::kHalvesShift;
  std::uint32_t all_halves() const {
    return (keys_ > device::kWordColumns ? 15U : 5U) << Step::kHalvesShift;
  }
  template <class QueryOf>
  static Rows rows_of(std::uint32_t parts, QueryOf query_of) {
    Rows rows{};
    for (int row = 0; row < kTileRows; ++row) {
      rows[static_cast<std::size_t>(row)] =
          (parts >> (row / kPartRows) & 1U) != 0 ? query_of(row) : -1;
    }
    return rows;
  }

  std::set<int> phases_of_lists() const {
    std::set<int> phases;
    for (int i = 0; i < g_.items_per_head; ++i) {
      for (int list = 0; list < g_.lists_per_item; ++list) {
        const std::int32_t first =
            g_.q_offset + device::block_item(g_, i).q_begin + list * g_.queries_of_list();
        phases.insert(first % g_.unit_rows);
      }
    }
    return phases;
  }

  void add_cuts(int list, int phase, const Rows& rows) {
    const auto cut_units = narrow(ceil_div(g_.queries_of_list() + phase, g_.unit_rows));
    for (int cut = 0; cut < g_.cuts_per_list; ++cut) {
      const int before = cut * g_.units_per_step();
      const int units = std::clamp(cut_units - before, 0, g_.units_per_step());
      for (std::uint32_t subset = 1; subset < 1U << units; ++subset) {
        const std::uint32_t flags = add(rows, [&](int query, int column) {
          const int unit = set_bit(subset, column / g_.unit_rows);
          const int key = (before + unit) * g_.unit_rows + column % g_.unit_rows;
          return unit >= 0 && key <= phase + query;
        });
        image_.cut_flags[static_cast<std::size_t>(g_.cut_index(list, phase, cut, subset))] = flags;
      }
    }
  }
  // The place of the bit before which `rank` are set; -1: there are not as many.
  static int set_bit(std::uint32_t bits, int rank) {
    for (; rank > 0; --rank) bits &= bits - 1;
    return bits == 0 ? -1 : std::countr_zero(bits);
  }

  // A step of which the query of a row sees the columns that visible(query, column) says. It has a
  // bitmap even if that is all of them: kernels expect one of all steps that come first.
  template <class Visible>
  std::uint32_t add(const Rows& rows, Visible visible) {
    const int words_per_row = keys_ / device::kWordColumns;
    std::vector<std::uint64_t> words(static_cast<std::size_t>(kTileRows) *
                                     static_cast<std::size_t>(words_per_row));
    const auto word_of = [&](int query, int column) -> std::uint64_t& {
      const int word = query * words_per_row + column / device::kWordColumns;
      return words[static_cast<std::size_t>(word)];
    };
    std::uint32_t halves = 0;
    for (int row = 0; row < kTileRows; ++row) {
      const int query = rows[static_cast<std::size_t>(row)];
      for (int column = 0; column < keys_; ++column) {
        if (query < 0 || !visible(query, column)) continue;
        word_of(query, column) |= std::uint64_t{1} << (column % device::kWordColumns);
        halves |= 1U << (2 * (row / kPartRows) + column / device::kWordColumns);
      }
    }
    const auto index =
        image_.bitmaps.size() / static_cast<std::size_t>(device::fragment_words(keys_));
    append_fragments(words, words_per_row, rows, image_.bitmaps);
    return halves << Step::kHalvesShift | Step::kHasBitmap |
           static_cast<std::uint32_t>(index) << Step::kBitmapShift;
  }

  BlockListImage& image_;
  const BlockGeometry& g_;
  int keys_;
};

}  // namespace

int planning_warps(const BlockGeometry& geometry) {
  constexpr int kMost = 8;
  return geometry.num_units == 0
             ? kMost
             : std::clamp(kPlanningBytes / (4 * geometry.words_per_item()), 0, kMost);
}

BlockListImage make_block_list_image(const BlockAttentionSpec& spec) {
  const int keys = device::keys_of_step(static_cast<int>(spec.attention.head_dim));
  check_lengths(spec);
  check_heads(spec);
  check_blocks(spec, keys);
  BlockListImage image;
  image.geometry = make_geometry(spec, keys);
  demand(planning_warps(image.geometry) > 0, kWhat, spec.kv_len,
         " keys are too many for blocks of ", spec.kv_block, "; take larger ones");
  image.box_rows = image.geometry.unit_rows;
  // Kernels that change scores do not skip.
  image.skips_parts = image.geometry.lists_per_item == 2 && !spec.changes_scores;
  FlagsMaker maker(image, keys);
  maker.add_ends();
  maker.add_cuts();
  return image;
}

}  // namespace perpend
