#include "perpend/schedule/tile_bitmap.h"

#include <algorithm>

namespace perpend {

std::int32_t TileBitmaps::add(std::span<const std::uint64_t> words) {
  std::uint64_t hash = 0;
  for (const std::uint64_t word : words) {
    hash = (hash ^ word) * 0x9E3779B97F4A7C15U;
    hash ^= hash >> 29;
  }
  const auto [first, last] = by_hash_.equal_range(hash);
  for (auto found = first; found != last; ++found) {
    const auto begin =
        words_.begin() +
        static_cast<std::ptrdiff_t>(static_cast<std::size_t>(found->second) * words_per_tile());
    if (std::equal(words.begin(), words.end(), begin)) return found->second;
  }
  words_.insert(words_.end(), words.begin(), words.end());
  by_hash_.emplace(hash, count_);
  return count_++;
}

}  // namespace perpend
