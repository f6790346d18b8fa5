#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

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
  std::int32_t count() const { return count_; }

  // Index of `words` (words_per_tile() of them), added when new.
  std::int32_t add(std::span<const std::uint64_t> words);

  std::span<const std::uint64_t> row(std::int32_t bitmap, int outer_row) const {
    const auto first =
        static_cast<std::size_t>(bitmap) * words_per_tile() +
        static_cast<std::size_t>(outer_row) * static_cast<std::size_t>(words_per_row_);
    return std::span(words_).subspan(first, static_cast<std::size_t>(words_per_row_));
  }

 private:
  int outer_tile_ = 0;
  int words_per_row_ = 0;
  std::int32_t count_ = 0;
  std::vector<std::uint64_t> words_;
  std::unordered_multimap<std::uint64_t, std::int32_t> by_hash_;
};

}  // namespace perpend
