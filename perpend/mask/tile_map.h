#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace perpend {

// A static block map: a grid of tiles of tile_q queries x tile_k keys, each dead, full or with an
// explicit bitmap (measured sparsity; FlexAttention's BlockMask). Kept as lists of live tiles by
// row and by column, so that its size is that of what is live. A value, cheap to copy.
class TileMap {
 public:
  static constexpr std::int32_t kDead = -2;
  static constexpr std::int32_t kFull = -1;

  // What a map is made of. Rows of tiles are CSR: the live tiles of row r are
  // [row_begin[r], row_begin[r + 1]), their columns ascending.
  struct Tiles {
    std::int64_t tile_q = 0;
    std::int64_t tile_k = 0;
    std::int64_t num_columns = 0;
    std::vector<std::int64_t> row_begin{};  // [num_rows + 1], from 0
    std::vector<std::int32_t> columns{};    // [num_live]
    std::vector<std::int32_t> bitmaps{};    // [num_live]: kFull, or an index into the bitmaps
    // [num_bitmaps, tile_q, ceil(tile_k / 64)], row-major: bit c of a row (word c / 64, bit c % 64)
    // is 1 when its query sees key c of the tile.
    std::vector<std::uint64_t> words{};

    friend bool operator==(const Tiles&, const Tiles&) = default;
  };

  // Throws InvalidArgument when the parts do not fit one another.
  explicit TileMap(Tiles tiles);

  std::int64_t tile_q() const { return parts_->tiles.tile_q; }
  std::int64_t tile_k() const { return parts_->tiles.tile_k; }
  std::int64_t num_rows() const {
    return static_cast<std::int64_t>(parts_->tiles.row_begin.size()) - 1;
  }
  std::int64_t num_columns() const { return parts_->tiles.num_columns; }
  const Tiles& tiles() const { return parts_->tiles; }

  bool visible(std::int64_t q, std::int64_t k) const;

  // A list of live tiles along one row (by_row) or column of tiles.
  struct Line {
    std::span<const std::int32_t> places;   // columns of a row, rows of a column; ascending
    std::span<const std::int32_t> bitmaps;  // kFull or an index
  };
  Line line(bool by_row, std::int64_t index) const;  // empty outside of the map
  bool bit(std::int32_t bitmap, std::int64_t row, std::int64_t column) const;

  std::size_t hash() const { return parts_->hash; }
  friend bool operator==(const TileMap& a, const TileMap& b) {
    return a.parts_ == b.parts_ || (a.hash() == b.hash() && a.parts_->tiles == b.parts_->tiles);
  }

 private:
  struct Parts {
    Tiles tiles;
    // The same tiles by column.
    std::vector<std::int64_t> column_begin;
    std::vector<std::int32_t> rows;
    std::vector<std::int32_t> column_bitmaps;
    std::size_t hash = 0;
  };
  std::shared_ptr<const Parts> parts_;
};

}  // namespace perpend
