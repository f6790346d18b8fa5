#pragma once

#include <cstdint>
#include <vector>

#include "perpend/io/tokenizer/model.h"

namespace perpend {

// Byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909): of all neighbouring pairs the one
// with the lowest rank is merged first, the leftmost among equals, until none has a rank.
class BytePairMerger {
 public:
  void reserve(std::size_t num_merges);
  // Tokens `left` and `right` become `merged`. A pair added again takes the new rank.
  void add(std::int32_t left, std::int32_t right, std::int32_t merged, std::int32_t rank);

  // Merges the pieces from `begin` on, in place. O(n log n).
  void merge(std::vector<Piece>& pieces, std::size_t begin) const;

 private:
  struct Merge {
    std::uint64_t pair = kNoPair;
    std::int32_t rank = 0;
    std::int32_t merged = 0;
  };
  struct Candidate;

  static constexpr std::uint64_t kNoPair = ~std::uint64_t{0};

  std::size_t slot_of(std::uint64_t pair) const;
  const Merge* find(std::int32_t left, std::int32_t right) const;
  void merge_short(std::vector<Piece>& pieces, std::size_t begin) const;
  void merge_long(std::vector<Piece>& pieces, std::size_t begin) const;

  std::vector<Merge> table_;  // open addressing; the size is a power of two
  std::size_t num_merges_ = 0;
};

}  // namespace perpend
