#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "perpend/mask/bound_mask.h"
#include "perpend/schedule/schedule.h"

namespace perpend {

// The bits of a cell, the smallest piece of the inner axis that planning tells apart: a sub-tile,
// or a step where steps are contiguous. Where they stand is CellPatterns' affair.
struct CellPattern {
  std::uint8_t live_parts = 0;  // bit p: part p has a live pair
  std::uint8_t full_parts = 0;  // bit p: every pair of part p is live
  bool clipped = false;         // the sequence ends inside
  std::uint8_t shift = 0;       // of the cell's first column in its words
  std::int32_t stride = 0;      // words from row to row
  std::size_t first = 0;        // word of the first row

  bool is_dead() const { return live_parts == 0; }
  bool is_full() const { return full_parts == live_parts; }
};

// The cell patterns met while planning, and the classes of rectangles that are known to have them,
// so that bits are looked at once a class.
class CellPatterns {
 public:
  CellPatterns(const TilePlan& plan, Sweep sweep, bool reuse_classes);

  // The cells of outer x inner, in absolute positions, are patterns [first, first + count); `inner`
  // begins with a cell and has at most a step. `classes` tells masks apart that do not share them.
  std::int32_t find(const BoundMask& mask, std::int32_t classes, Range outer, Range inner);
  // The cell of `rows` x `columns` with all pairs of `parts` live and no other.
  std::int32_t full(std::int64_t rows, std::int64_t columns, std::uint8_t parts);

  // Masks whose tiles are all different would fill the memory with what is never met again: past a
  // size all patterns are better forgotten.
  bool is_large() const { return words_.size() > kMostWords; }
  void clear();

  const CellPattern& operator[](std::int32_t pattern) const {
    return patterns_[static_cast<std::size_t>(pattern)];
  }
  // Word `w` of a row of a cell, its columns from bit 0 on.
  std::uint64_t word(const CellPattern& pattern, std::size_t row, std::size_t w) const {
    return cell_bits(pattern,
                     words_[pattern.first + row * static_cast<std::size_t>(pattern.stride) + w]);
  }
  // Words of a row of a cell; fewer than a whole cell has where the sequence ends inside.
  std::size_t words_of(const CellPattern& pattern) const {
    return static_cast<std::size_t>(std::min(words_per_row_, pattern.stride));
  }

 private:
  std::uint64_t cell_bits(const CellPattern& pattern, std::uint64_t word) const {
    return word >> pattern.shift & inside_;
  }

  static constexpr std::size_t kMostWords = std::size_t{1} << 16;

  // The words of a part's rows joined.
  struct Joined {
    std::uint64_t any = 0;
    std::uint64_t all = ~std::uint64_t{0};
  };

  void add_rectangle(const BoundMask& mask, Range outer, Range inner);
  void join_rows(std::size_t first, std::int64_t rows, std::int64_t stride);
  void describe(CellPattern& pattern, std::int64_t column, std::int64_t columns) const;

  int cell_;
  int outer_part_;
  int words_per_row_;     // of a cell
  std::uint64_t inside_;  // the columns of a cell in one word
  Sweep sweep_;
  bool reuse_classes_;
  std::vector<CellPattern> patterns_;
  std::vector<std::uint64_t> words_;  // rectangles of bits, row by row
  std::vector<Joined> joined_;        // of the parts of the last of them, word by word
  WordDictionary classes_;
  std::vector<std::int32_t> first_of_class_;
  std::vector<std::int64_t> class_key_;
  // Whole cells of full_rows_ rows, by parts.
  std::array<std::int32_t, 4> full_{};
  std::int64_t full_rows_ = -1;
};

}  // namespace perpend
