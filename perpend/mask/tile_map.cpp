#include "perpend/mask/tile_map.h"

#include <algorithm>
#include <utility>

#include "perpend/core/error.h"
#include "perpend/core/range.h"
#include "perpend/mask/hash_mix.h"

namespace perpend {
namespace {

constexpr std::int64_t kMaxTile = std::int64_t{1} << 20;
constexpr std::int64_t kMaxTiles = std::int64_t{1} << 30;

std::int64_t words_per_bitmap(const TileMap::Tiles& tiles) {
  return tiles.tile_q * ceil_div(tiles.tile_k, 64);
}

void check_sizes(const TileMap::Tiles& tiles) {
  check(tiles.tile_q >= 1 && tiles.tile_q <= kMaxTile && tiles.tile_k >= 1 &&
            tiles.tile_k <= kMaxTile,
        concat("tile map: tile sizes must be in [1, ", kMaxTile, "] (", tiles.tile_q, ", ",
               tiles.tile_k, ")"));
  check(tiles.num_columns >= 0 && tiles.num_columns <= kMaxTiles,
        concat("tile map: num_columns must be in [0, ", kMaxTiles, "] (", tiles.num_columns, ")"));
  check(!tiles.row_begin.empty() && tiles.row_begin.front() == 0 &&
            std::is_sorted(tiles.row_begin.begin(), tiles.row_begin.end()),
        "tile map: row_begin must ascend from 0");
  check_eq(tiles.row_begin.back(), static_cast<std::int64_t>(tiles.columns.size()),
           "tile map: row_begin must end at the number of columns");
  check_eq(tiles.columns.size(), tiles.bitmaps.size(),
           "tile map: columns and bitmaps differ in number");
  check(static_cast<std::int64_t>(tiles.words.size()) % words_per_bitmap(tiles) == 0,
        concat("tile map: words must be whole bitmaps of ", words_per_bitmap(tiles), " (",
               tiles.words.size(), ")"));
}

void check_tiles(const TileMap::Tiles& tiles) {
  const auto num_bitmaps = static_cast<std::int64_t>(tiles.words.size()) / words_per_bitmap(tiles);
  for (std::size_t row = 0; row + 1 < tiles.row_begin.size(); ++row) {
    std::int64_t previous = -1;
    for (auto i = static_cast<std::size_t>(tiles.row_begin[row]);
         i < static_cast<std::size_t>(tiles.row_begin[row + 1]); ++i) {
      check(tiles.columns[i] > previous && tiles.columns[i] < tiles.num_columns,
            concat("tile map: columns of row ", row, " must ascend below ", tiles.num_columns, " (",
                   tiles.columns[i], " after ", previous, ")"));
      check(tiles.bitmaps[i] >= TileMap::kFull && tiles.bitmaps[i] < num_bitmaps,
            concat("tile map: bitmap ", tiles.bitmaps[i], " of row ", row,
                   " does not exist: there are ", num_bitmaps));
      previous = tiles.columns[i];
    }
  }
}

}  // namespace

TileMap::TileMap(Tiles tiles) {
  check_sizes(tiles);
  check_tiles(tiles);
  auto parts = std::make_shared<Parts>();
  const auto num_live = tiles.columns.size();
  parts->column_begin.assign(static_cast<std::size_t>(tiles.num_columns) + 1, 0);
  for (const std::int32_t column : tiles.columns) {
    ++parts->column_begin[static_cast<std::size_t>(column) + 1];
  }
  for (std::size_t c = 1; c < parts->column_begin.size(); ++c) {
    parts->column_begin[c] += parts->column_begin[c - 1];
  }
  parts->rows.resize(num_live);
  parts->column_bitmaps.resize(num_live);
  std::vector<std::int64_t> next(parts->column_begin.begin(), parts->column_begin.end() - 1);
  HashMix hash(num_live);
  hash.add(tiles.tile_q).add(tiles.tile_k).add(tiles.num_columns);
  for (std::size_t row = 0; row + 1 < tiles.row_begin.size(); ++row) {
    for (auto i = static_cast<std::size_t>(tiles.row_begin[row]);
         i < static_cast<std::size_t>(tiles.row_begin[row + 1]); ++i) {
      const auto slot =
          static_cast<std::size_t>(next[static_cast<std::size_t>(tiles.columns[i])]++);
      parts->rows[slot] = static_cast<std::int32_t>(row);
      parts->column_bitmaps[slot] = tiles.bitmaps[i];
      hash.add(std::uint64_t{row}).add(std::int64_t{tiles.columns[i]});
      hash.add(std::int64_t{tiles.bitmaps[i]});
    }
  }
  for (const std::uint64_t word : tiles.words) hash.add(word);
  parts->hash = hash.value();
  parts->tiles = std::move(tiles);
  parts_ = std::move(parts);
}

TileMap::Line TileMap::line(bool by_row, std::int64_t index) const {
  const auto& begin = by_row ? parts_->tiles.row_begin : parts_->column_begin;
  if (index < 0 || index + 1 >= static_cast<std::int64_t>(begin.size())) return {};
  const auto first = static_cast<std::size_t>(begin[static_cast<std::size_t>(index)]);
  const auto count = static_cast<std::size_t>(begin[static_cast<std::size_t>(index) + 1]) - first;
  const auto& places = by_row ? parts_->tiles.columns : parts_->rows;
  const auto& bitmaps = by_row ? parts_->tiles.bitmaps : parts_->column_bitmaps;
  return {std::span(places).subspan(first, count), std::span(bitmaps).subspan(first, count)};
}

bool TileMap::bit(std::int32_t bitmap, std::int64_t row, std::int64_t column) const {
  const std::int64_t words_per_row = ceil_div(tile_k(), 64);
  const std::int64_t word = (bitmap * tile_q() + row) * words_per_row + column / 64;
  return (parts_->tiles.words[static_cast<std::size_t>(word)] >> (column % 64) & 1U) != 0;
}

bool TileMap::visible(std::int64_t q, std::int64_t k) const {
  const Line row = line(true, q / tile_q());
  const auto place = static_cast<std::int32_t>(k / tile_k());
  const auto found = std::lower_bound(row.places.begin(), row.places.end(), place);
  if (found == row.places.end() || *found != place) return false;
  const std::int32_t bitmap = row.bitmaps[static_cast<std::size_t>(found - row.places.begin())];
  return bitmap == kFull || bit(bitmap, q % tile_q(), k % tile_k());
}

}  // namespace perpend
