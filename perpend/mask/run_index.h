#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "perpend/core/range.h"

namespace perpend {

// Positions and labels stay far from the ends of 64 bits, so that sums of a few never overflow.
inline constexpr std::int64_t kUnbounded = std::numeric_limits<std::int64_t>::max() / 4;

// The closed interval [min, max] of label values.
struct LabelRange {
  std::int64_t min = kUnbounded;
  std::int64_t max = -kUnbounded;

  friend constexpr bool operator==(const LabelRange&, const LabelRange&) = default;
  constexpr bool contains(std::int64_t value) const { return min <= value && value <= max; }
  constexpr bool contains(LabelRange other) const { return min <= other.min && other.max <= max; }
  constexpr LabelRange join(LabelRange other) const {
    return {std::min(min, other.min), std::max(max, other.max)};
  }
};

// A label given as runs of equal values: found by position in constant time, asked for the values
// of many runs by a hierarchy of minima and maxima.
class RunIndex {
 public:
  // Run i holds positions [starts[i], starts[i + 1]); starts ascend from 0, the last run has no
  // end, and neighbours have different values.
  RunIndex(std::vector<std::int64_t> starts, std::vector<std::int64_t> values);

  std::size_t size() const { return starts_.size(); }
  bool ascends() const { return ascends_; }  // values never fall
  std::size_t index_of(std::int64_t position) const;
  std::int64_t value(std::size_t index) const { return values_[index]; }
  Range run(std::size_t index) const {
    return {starts_[index], index + 1 < starts_.size() ? starts_[index + 1] : kUnbounded};
  }
  // Values of the runs that hold `positions`.
  LabelRange range(Range positions) const;
  // First position from `position` on whose value is not in `allowed`; kUnbounded when there is
  // none.
  std::int64_t leave(std::int64_t position, LabelRange allowed) const;
  // First position whose value is at least `value`, when values ascend.
  std::int64_t first_at_least(std::int64_t value) const;

  std::span<const std::int64_t> starts() const { return starts_; }
  std::size_t hash() const { return hash_; }
  friend bool operator==(const RunIndex& a, const RunIndex& b) {
    return a.hash_ == b.hash_ && a.starts_ == b.starts_ && a.values_ == b.values_;
  }

 private:
  void build_buckets();
  void build_levels();
  LabelRange at_level(std::size_t level, std::size_t index) const;
  std::size_t level_size(std::size_t level) const;

  std::vector<std::int64_t> starts_;
  std::vector<std::int64_t> values_;
  // Run of each position that is a multiple of 2^bucket_shift_.
  std::vector<std::uint32_t> buckets_;
  int bucket_shift_ = 0;
  // levels_[l] joins kFanOut neighbours of the level below; level 0 is values_ itself.
  std::vector<std::vector<LabelRange>> levels_;
  bool ascends_ = true;
  std::size_t hash_ = 0;
};

}  // namespace perpend
