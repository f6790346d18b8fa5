#pragma once

#include <cstdint>
#include <span>

#include "perpend/schedule/word_dictionary.h"

namespace perpend {

// The dictionary of partial tiles: plain row-major bitmaps of outer_tile rows, each of
// words_per_row 64-bit words; bit c of a row (word c / 64, bit c % 64) is 1 when the pair with
// column c of the tile is visible. Equal bitmaps are stored once (causal needs one, windows a
// handful). Rows and columns beyond the sequence are 0.
class TileBitmaps {
 public:
  TileBitmaps() = default;
  TileBitmaps(int outer_tile, int inner_tile)
      : outer_tile_(outer_tile), words_per_row_((inner_tile + 63) / 64) {}

  int words_per_row() const { return words_per_row_; }
  std::size_t words_per_tile() const {
    return static_cast<std::size_t>(outer_tile_) * static_cast<std::size_t>(words_per_row_);
  }
  std::int32_t count() const { return tiles_.count(); }

  // Index of `words` (words_per_tile() of them), added when new.
  std::int32_t add(std::span<const std::uint64_t> words) { return tiles_.add(words).index; }

  std::span<const std::uint64_t> tile(std::int32_t bitmap) const { return tiles_[bitmap]; }
  std::span<const std::uint64_t> row(std::int32_t bitmap, int outer_row) const {
    return tiles_[bitmap].subspan(
        static_cast<std::size_t>(outer_row) * static_cast<std::size_t>(words_per_row_),
        static_cast<std::size_t>(words_per_row_));
  }

 private:
  int outer_tile_ = 0;
  int words_per_row_ = 0;
  WordDictionary tiles_;
};

}  // namespace perpend
