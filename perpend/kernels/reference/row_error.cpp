#include "perpend/kernels/reference/row_error.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace perpend {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Norm of a row, or what it would be if its terms did not cancel, whichever is larger.
double size_of_row(const RowPair& row) {
  double norm = 0;
  double squares = 0;
  for (std::size_t d = 0; d < row.expected.size(); ++d) {
    norm += row.expected[d] * row.expected[d];
    squares += row.squares[d];
  }
  return std::sqrt(std::max(norm, squares));
}

}  // namespace

RowError row_error(const RowPair& row, double least_size) {
  double difference = 0;
  double score_squares = 0;
  bool equal = true;
  for (std::size_t d = 0; d < row.expected.size(); ++d) {
    const double off = row.found[d] - row.expected[d];
    if (std::isnan(off)) return {.error = kInfinity};
    equal = equal && off == 0;
    difference += off * off;
    score_squares += row.score_squares[d];
  }
  const double size = size_of_row(row);
  if (size == 0 || equal) return {.error = equal ? 0 : kInfinity};
  const double measure = std::max(size, least_size);
  return {std::sqrt(difference) / measure, std::sqrt(score_squares) / measure};
}

double lse_error(const RowPair& row) {
  const double found = row.found[0];
  const double expected = row.expected[0];
  if (std::isinf(expected)) return found == expected ? 0 : kInfinity;
  const double size = std::max(std::abs(expected), std::sqrt(row.squares[0]));
  const double error = std::abs(found - expected) / (1 + size);
  return std::isnan(error) ? kInfinity : error;
}

std::int64_t furthest_dim(const RowPair& row) {
  std::int64_t worst = 0;
  double largest = -1;
  for (std::size_t d = 0; d < row.expected.size(); ++d) {
    const double off = std::abs(row.found[d] - row.expected[d]);
    if (off > largest || std::isnan(off)) {
      worst = static_cast<std::int64_t>(d);
      largest = std::isnan(off) ? kInfinity : off;
    }
  }
  return worst;
}

}  // namespace perpend
