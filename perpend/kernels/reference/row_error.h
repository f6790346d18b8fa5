#pragma once

#include <cstdint>
#include <span>

namespace perpend {

// One row of an output, what it must be, and the squares beside those sums (ReferenceSums).
struct RowPair {
  std::span<const double> found;
  std::span<const double> expected;
  std::span<const double> squares;
  std::span<const double> score_squares = {};  // none for a logsumexp
};

struct RowError {
  double error = 0;
  double score_size = 0;  // of the scores behind the row, as they weigh in it
};

// norm(found - expected) / norm(expected), the latter at least the root of the squares and at least
// `least_size`. A row whose sums have no term must be exactly zero. Infinite for NaN.
RowError row_error(const RowPair& row, double least_size = 0);

// The same for a logsumexp, one value: |found - expected| / (1 + |expected|), with the root of the
// squares in place of |expected| where that is larger; -inf must be met exactly.
double lse_error(const RowPair& row);

// The value that is furthest off.
std::int64_t furthest_dim(const RowPair& row);

}  // namespace perpend
