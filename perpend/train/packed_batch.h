#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "perpend/core/range.h"
#include "perpend/train/dataset.h"

namespace perpend {

// Sequences packed without padding: the rows of all one after another.
struct PackedBatch {
  // What a loss asks for by name: values of sequence s are [indptr[s], indptr[s + 1]).
  struct Lists {
    std::vector<std::int32_t> indptr = {0};
    std::vector<std::int32_t> values;

    std::span<const std::int32_t> of(std::size_t sequence) const {
      const auto begin = static_cast<std::size_t>(indptr[sequence]);
      const auto end = static_cast<std::size_t>(indptr[sequence + 1]);
      return std::span(values).subspan(begin, end - begin);
    }
  };

  std::vector<std::int32_t> tokens;     // [rows]
  std::vector<std::int32_t> targets;    // [rows], kNoTarget for nothing
  std::vector<float> weights;           // [rows], of targets; 0 where there is none
  std::vector<float> counts;            // [rows], of which losses are means
  std::vector<std::int32_t> positions;  // [rows]
  std::vector<std::int32_t> q_indptr = {0};
  std::map<std::string, std::vector<std::int32_t>> labels;  // [rows] each
  std::map<std::string, Lists> lists;
  std::vector<std::int64_t> num_noised;  // [num_sequences], rows at the front of each
  std::vector<Mask> masks;               // [num_sequences], or none: those of the layers
  std::int64_t num_tokens = 0;           // of the examples, of which rows may be several copies

  std::size_t num_sequences() const { return q_indptr.size() - 1; }
  std::int64_t num_rows() const { return static_cast<std::int64_t>(tokens.size()); }
  Range noised_rows(std::size_t sequence) const {
    const std::int64_t begin = q_indptr[sequence];
    return {begin, begin + num_noised[sequence]};
  }
  Range clean_rows(std::size_t sequence) const {
    return {noised_rows(sequence).end, q_indptr[sequence + 1]};
  }
  // Rows of sequence s in an array of all rows.
  std::span<const std::int32_t> rows_of(const std::vector<std::int32_t>& values,
                                        std::size_t sequence) const {
    const auto begin = static_cast<std::size_t>(q_indptr[sequence]);
    const auto end = static_cast<std::size_t>(q_indptr[sequence + 1]);
    return std::span(values).subspan(begin, end - begin);
  }
};

// Throws InvalidArgument, beginning with the number of the example in `numbers`, for parts of
// unequal length, negative weights, counts or positions, more noised rows than there are, and
// labels, lists or masks that not all have.
PackedBatch pack(std::span<const TrainingSequence> sequences,
                 std::span<const std::int64_t> numbers);

}  // namespace perpend
