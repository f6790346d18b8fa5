#include "perpend/mask/run_index.h"

#include <algorithm>
#include <utility>

#include "perpend/mask/hash_mix.h"

namespace perpend {
namespace {

constexpr std::size_t kFanOut = 16;

}  // namespace

RunIndex::RunIndex(std::vector<std::int64_t> starts, std::vector<std::int64_t> values)
    : starts_(std::move(starts)), values_(std::move(values)) {
  ascends_ = std::is_sorted(values_.begin(), values_.end());
  HashMix hash(starts_.size());
  for (const std::int64_t start : starts_) hash.add(start);
  for (const std::int64_t value : values_) hash.add(value);
  hash_ = hash.value();
  build_buckets();
  if (!ascends_) build_levels();
}

void RunIndex::build_buckets() {
  const std::int64_t last = starts_.back();
  while ((last >> bucket_shift_) > static_cast<std::int64_t>(2 * starts_.size())) ++bucket_shift_;
  std::size_t run = 0;
  for (std::int64_t position = 0; position <= last; position += std::int64_t{1} << bucket_shift_) {
    while (run + 1 < starts_.size() && starts_[run + 1] <= position) ++run;
    buckets_.push_back(static_cast<std::uint32_t>(run));
  }
}

void RunIndex::build_levels() {
  levels_.emplace_back();  // stands for values_
  while (level_size(levels_.size() - 1) > 1) {
    const std::size_t below = levels_.size() - 1;
    std::vector<LabelRange> level((level_size(below) + kFanOut - 1) / kFanOut);
    for (std::size_t i = 0; i < level_size(below); ++i) {
      level[i / kFanOut] = level[i / kFanOut].join(at_level(below, i));
    }
    levels_.push_back(std::move(level));
  }
}

LabelRange RunIndex::at_level(std::size_t level, std::size_t index) const {
  return level == 0 ? LabelRange{values_[index], values_[index]} : levels_[level][index];
}

std::size_t RunIndex::level_size(std::size_t level) const {
  return level == 0 ? values_.size() : levels_[level].size();
}

std::size_t RunIndex::index_of(std::int64_t position) const {
  if (position >= starts_.back()) return starts_.size() - 1;
  const auto bucket = static_cast<std::size_t>(std::max<std::int64_t>(0, position)) >>
                      static_cast<unsigned>(bucket_shift_);
  std::size_t first = buckets_[bucket];
  std::size_t last = bucket + 1 < buckets_.size() ? buckets_[bucket + 1] : starts_.size() - 1;
  // The run is in [first, last]: usually one of two.
  while (first < last) {
    const std::size_t middle = (first + last + 1) / 2;
    if (starts_[middle] <= position) {
      first = middle;
    } else {
      last = middle - 1;
    }
  }
  return first;
}

LabelRange RunIndex::range(Range positions) const {
  std::size_t first = index_of(positions.begin);
  std::size_t last = index_of(positions.end - 1) + 1;
  if (ascends_) return {values_[first], values_[last - 1]};
  LabelRange result;
  for (std::size_t level = 0; first < last; ++level) {
    for (; first < last && first % kFanOut != 0; ++first) {
      result = result.join(at_level(level, first));
    }
    for (; first < last && last % kFanOut != 0; --last) {
      result = result.join(at_level(level, last - 1));
    }
    first /= kFanOut;
    last /= kFanOut;
  }
  return result;
}

std::int64_t RunIndex::leave(std::int64_t position, LabelRange allowed) const {
  std::size_t index = index_of(position);
  if (!allowed.contains(values_[index])) return position;
  if (ascends_) return allowed.max >= kUnbounded ? kUnbounded : first_at_least(allowed.max + 1);
  std::size_t level = 0;
  while (index < level_size(level)) {
    if (allowed.contains(at_level(level, index))) {
      ++index;
      for (; index % kFanOut == 0 && level + 1 < levels_.size(); ++level) index /= kFanOut;
    } else if (level == 0) {
      return starts_[index];
    } else {
      --level;
      index *= kFanOut;
    }
  }
  return kUnbounded;
}

std::int64_t RunIndex::first_at_least(std::int64_t value) const {
  const auto found = std::lower_bound(values_.begin(), values_.end(), value);
  return found == values_.end() ? kUnbounded
                                : starts_[static_cast<std::size_t>(found - values_.begin())];
}

}  // namespace perpend
