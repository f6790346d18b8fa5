#include "perpend/schedule/cell_patterns.h"

#include <algorithm>

namespace perpend {
namespace {

constexpr std::uint64_t low_bits(std::int64_t count) {
  if (count <= 0) return 0;
  return count >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
}

}  // namespace

CellPatterns::CellPatterns(const TilePlan& plan, Sweep sweep, bool reuse_classes)
    : cell_(plan.sub_tile),
      outer_part_(plan.outer_part),
      words_per_row_((plan.sub_tile + 63) / 64),
      inside_(low_bits(plan.sub_tile)),
      sweep_(sweep),
      reuse_classes_(reuse_classes) {}

std::int32_t CellPatterns::find(const BoundMask& mask, std::int32_t classes, Range outer,
                                Range inner) {
  const auto next = static_cast<std::int32_t>(patterns_.size());
  if (!reuse_classes_) {
    add_rectangle(mask, outer, inner);
    return next;
  }
  class_key_.clear();
  class_key_.push_back(classes);
  class_key_.push_back(outer.size() << 32 | inner.size());
  mask.append_class(sweep_, outer, inner, class_key_);
  const WordDictionary::Place place = classes_.add(as_words(class_key_));
  if (place.is_new) {
    first_of_class_.push_back(next);
    add_rectangle(mask, outer, inner);
  }
  return first_of_class_[static_cast<std::size_t>(place.index)];
}

void CellPatterns::clear() {
  patterns_.clear();
  words_.clear();
  classes_.clear();
  first_of_class_.clear();
  full_rows_ = -1;
}

void CellPatterns::add_rectangle(const BoundMask& mask, Range outer, Range inner) {
  const std::int64_t stride = ceil_div(inner.size(), 64);
  const std::size_t first = words_.size();
  words_.resize(first + static_cast<std::size_t>(outer.size() * stride));
  for (std::int64_t w = 0; w < stride; ++w) {
    mask.words(sweep_, outer, inner.begin + 64 * w, words_.data() + first + w, stride);
  }
  const std::uint64_t inside = low_bits(inner.size() - 64 * (stride - 1));
  if (inside != ~std::uint64_t{0}) {
    for (std::int64_t row = 1; row <= outer.size(); ++row) {
      words_[first + static_cast<std::size_t>(row * stride - 1)] &= inside;
    }
  }
  join_rows(first, outer.size(), stride);
  for (std::int64_t begin = 0; begin < inner.size(); begin += cell_) {
    CellPattern pattern;
    pattern.first = first + static_cast<std::size_t>(begin / 64);
    pattern.stride = static_cast<std::int32_t>(stride);
    pattern.shift = static_cast<std::uint8_t>(begin % 64);
    describe(pattern, begin, std::min<std::int64_t>(cell_, inner.size() - begin));
    patterns_.push_back(pattern);
  }
}

void CellPatterns::join_rows(std::size_t first, std::int64_t rows, std::int64_t stride) {
  joined_.clear();
  const std::uint64_t* row = words_.data() + first;
  for (std::int64_t begin = 0; begin < rows; begin += outer_part_) {
    const std::int64_t count = std::min<std::int64_t>(outer_part_, rows - begin);
    for (std::int64_t w = 0; w < stride; ++w) {
      Joined joined;
      for (std::int64_t r = 0; r < count; ++r) {
        joined.any |= row[r * stride + w];
        joined.all &= row[r * stride + w];
      }
      joined_.push_back(joined);
    }
    row += count * stride;
  }
}

std::int32_t CellPatterns::full(std::int64_t rows, std::int64_t columns, std::uint8_t parts) {
  const bool whole = columns == cell_;
  if (whole && rows != full_rows_) {
    full_rows_ = rows;
    full_.fill(-1);
  }
  if (whole && full_[parts] >= 0) return full_[parts];
  CellPattern pattern{parts, parts, !whole, 0, words_per_row_, words_.size()};
  for (std::int64_t row = 0; row < rows; ++row) {
    const bool live = (parts >> (row / outer_part_) & 1U) != 0;
    for (std::int64_t w = 0; w < words_per_row_; ++w) {
      words_.push_back(live ? low_bits(columns - 64 * w) : 0);
    }
  }
  patterns_.push_back(pattern);
  const auto index = static_cast<std::int32_t>(patterns_.size() - 1);
  if (whole) full_[parts] = index;
  return index;
}

// Of the cell that begins at `column` of the rectangle.
void CellPatterns::describe(CellPattern& pattern, std::int64_t column, std::int64_t columns) const {
  pattern.clipped = columns < cell_;
  const auto stride = static_cast<std::size_t>(pattern.stride);
  for (std::size_t part = 0; part * stride < joined_.size(); ++part) {
    const Joined* joined = &joined_[part * stride + static_cast<std::size_t>(column / 64)];
    bool live = false;
    bool full = true;
    for (std::int64_t begin = 0; begin < columns; begin += 64, ++joined) {
      live |= cell_bits(pattern, joined->any) != 0;
      full &= cell_bits(pattern, joined->all) == low_bits(columns - begin);
    }
    const auto bit = static_cast<std::uint8_t>(1U << part);
    if (live) pattern.live_parts |= bit;
    if (live && full) pattern.full_parts |= bit;
  }
}

}  // namespace perpend
