#include "perpend/kernels/cuda/block_column_image.h"

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <numeric>
#include <set>

#include "perpend/core/demand.h"
#include "perpend/core/range.h"
#include "perpend/kernels/cuda/block_list_image.h"
#include "perpend/kernels/cuda/schedule_image.h"

namespace perpend {
namespace {

using device::ColumnGeometry;
using device::kGradientQueries;
using device::kPartRows;
using device::kTileRows;
using device::Step;

constexpr const char* kWhat = "block attention: ";
constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();

std::int32_t narrow(std::int64_t value) { return static_cast<std::int32_t>(value); }

// Tiles that a block may have keys of.
std::int64_t tiles_of_block(std::int64_t kv_block) {
  if (kv_block % kTileRows == 0) return kv_block / kTileRows;
  return kv_block < kTileRows ? 1 : kv_block / kTileRows + 2;
}

// Query blocks of a gathered step.
std::int64_t boxes_of_step(const BlockAttentionSpec& spec) {
  const bool is_box = spec.q_block == 16 || spec.q_block == 32;
  return is_box && spec.kv_block >= kPartRows ? kGradientQueries / spec.q_block : 1;
}

std::int32_t lists_of_cta(const ColumnGeometry& c) {
  std::int32_t lists = ColumnGeometry::kMostLists;
  while (lists > 0 && 4 * lists * c.words_per_list() > kPlanningBytes) lists /= 2;
  demand(lists > 0, kWhat, c.num_pieces, " blocks of keys are too many; take larger ones");
  return lists;
}

ColumnGeometry make_geometry(const BlockAttentionSpec& spec) {
  const std::int64_t group = spec.num_q_heads / spec.num_kv_heads;
  const std::int64_t columns_of_heads = spec.num_list_heads == 1 ? 1 : spec.num_kv_heads;
  const std::int64_t lists_per_column = spec.num_list_heads / columns_of_heads;
  ColumnGeometry c{};
  c.batch = narrow(spec.batch);
  c.piece_rows = narrow(std::min<std::int64_t>(spec.kv_block, kPartRows));
  c.pieces_per_block = narrow(spec.kv_block / c.piece_rows);
  c.num_pieces = narrow(ceil_div(spec.kv_len, c.piece_rows));
  c.pieces_per_tile = kTileRows / c.piece_rows;
  c.num_tiles = narrow(ceil_div(spec.kv_len, kTileRows));
  c.steps_per_block = narrow(ceil_div(spec.q_block, kGradientQueries));
  c.short_queries = narrow(spec.q_block % kGradientQueries);
  c.boxes_per_step = narrow(boxes_of_step(spec));
  c.num_list_rows = narrow(spec.batch * spec.num_list_heads);
  c.q_pitch = narrow(round_up(spec.num_q_blocks(), std::int64_t{ColumnGeometry::kMostLists}));
  c.lists_per_cta = lists_of_cta(c);
  c.lists_per_column = narrow(lists_per_column);
  c.heads_per_list = narrow(group / lists_per_column);
  c.items_per_column = narrow(spec.num_kv_heads / columns_of_heads);
  const std::int64_t items = spec.batch * spec.num_kv_heads * c.num_tiles;
  const std::int64_t live_tiles =
      std::min<std::int64_t>(spec.max_blocks * tiles_of_block(spec.kv_block), c.num_tiles);
  const std::int64_t steps = std::int64_t{c.num_list_rows} * spec.num_q_blocks() *
                             c.steps_per_block * live_tiles * c.heads_per_list;
  demand(items < kMost && steps < kMost && std::int64_t{c.num_list_rows} * c.q_pitch < kMost, kWhat,
         "a plan must have room for less than 2^31 steps of gradients (", steps,
         "); lower max_blocks");
  c.columns_per_batch = narrow(columns_of_heads * c.num_tiles);
  c.num_items = narrow(items);
  c.num_steps = narrow(steps);
  c.num_boxes = c.boxes_per_step > 1 ? narrow(steps / c.heads_per_list) : 0;
  return c;
}

// Makes the flags of all steps that there can be. Scores are computed with keys as rows.
class ColumnFlagsMaker {
 public:
  ColumnFlagsMaker(BlockColumnImage& image, const BlockAttentionSpec& spec)
      : image_(image), c_(image.geometry), spec_(spec) {}

  void make() {
    image_.flags.assign(static_cast<std::size_t>(c_.num_flags()), 0);
    for (const std::int32_t distance : distances()) {
      for (const bool is_short : {false, true}) {
        if (is_short && c_.short_queries == 0) continue;
        for (std::uint32_t pieces = 1; pieces < 1U << c_.pieces_per_tile; ++pieces) {
          image_.flags[static_cast<std::size_t>(c_.flags_index(is_short, distance, pieces))] =
              flags_of(is_short ? c_.short_queries : kGradientQueries, distance, pieces);
        }
      }
    }
    for (std::uint32_t pieces = 1; c_.boxes_per_step > 1 && pieces <= Step::kBothParts; ++pieces) {
      for (std::int32_t boxes = 1; boxes <= c_.boxes_per_step; ++boxes) {
        image_.flags[static_cast<std::size_t>(c_.gathered_flags_index(pieces, boxes))] =
            flags_of(boxes * narrow(spec_.q_block), ColumnGeometry::kBehindCuts, pieces);
      }
    }
  }

 private:
  using Rows = std::array<std::uint64_t, kTileRows>;

  // Those of a tile's first key and a step's first query that occur, the cut ones.
  std::set<std::int32_t> distances() const {
    std::set<std::int32_t> found = {ColumnGeometry::kBehindCuts};
    if (!spec_.causal) return found;
    for (std::int64_t begin = 0; begin < spec_.q_len; begin += spec_.q_block) {
      const std::int64_t end = std::min(begin + spec_.q_block, spec_.q_len);
      for (std::int64_t query = begin; query < end; query += kGradientQueries) {
        const std::int32_t distance = narrow((spec_.q_offset + query) % kTileRows);
        found.insert(distance);
        if (distance - kTileRows >= ColumnGeometry::kFirstCut) found.insert(distance - kTileRows);
        if (static_cast<int>(found.size()) == ColumnGeometry::kDistances) return found;
      }
    }
    return found;
  }

  std::uint32_t flags_of(std::int32_t queries, std::int32_t distance, std::uint32_t pieces) {
    Rows rows{};
    std::uint32_t parts = 0;
    bool is_full = true;
    for (std::int32_t key = 0; key < kTileRows; ++key) {
      const std::int32_t first = spec_.causal ? std::max(key - distance, 0) : 0;
      const bool is_there = (pieces >> key / c_.piece_rows & 1U) != 0 && first < queries;
      if (is_there) {
        rows[static_cast<std::size_t>(key)] = ones(queries) & ~ones(first);
        parts |= 1U << key / kPartRows;
      }
      is_full = is_full && rows[static_cast<std::size_t>(key)] == ones(kGradientQueries);
    }
    if (is_full || parts == 0) return parts;
    return parts | Step::kHasBitmap | bitmap_of(rows) << Step::kBitmapShift;
  }
  static std::uint64_t ones(std::int32_t count) {
    return count == kGradientQueries ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
  }

  std::uint32_t bitmap_of(const Rows& rows) {
    const auto [place, is_new] =
        known_.try_emplace(rows, static_cast<std::uint32_t>(known_.size()));
    if (is_new) {
      std::array<int, kTileRows> order{};
      std::iota(order.begin(), order.end(), 0);
      append_fragments(rows, 1, order, image_.bitmaps);
    }
    return place->second;
  }

  BlockColumnImage& image_;
  const ColumnGeometry& c_;
  const BlockAttentionSpec& spec_;
  std::map<Rows, std::uint32_t> known_;
};

}  // namespace

BlockColumnImage make_block_column_image(const BlockAttentionSpec& spec) {
  BlockColumnImage image;
  image.geometry = make_geometry(spec);
  for (std::int64_t b = 0; b <= spec.batch; ++b) image.q_indptr.push_back(narrow(b * spec.q_len));
  ColumnFlagsMaker(image, spec).make();
  return image;
}

}  // namespace perpend
