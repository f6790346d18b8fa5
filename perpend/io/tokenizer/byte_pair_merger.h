#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace perpend {

// Byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909): of all neighbouring pairs the one
// with the lowest rank is merged first, the leftmost among equals, until none has a rank.
class BytePairMerger {
 public:
  // Tokens `left` and `right` become `merged`; pairs added earlier rank lower. The first of two
  // equal pairs counts.
  void add(std::int32_t left, std::int32_t right, std::int32_t merged);
  void reserve(std::size_t num_merges) { merges_.reserve(num_merges); }

  // Merges `ids` in place. O(n log n).
  void merge(std::vector<std::int32_t>& ids) const;

 private:
  struct Merge {
    std::int32_t rank;
    std::int32_t merged;
  };
  struct Candidate;

  const Merge* find(std::int32_t left, std::int32_t right) const;

  std::unordered_map<std::uint64_t, Merge> merges_;
};

}  // namespace perpend
