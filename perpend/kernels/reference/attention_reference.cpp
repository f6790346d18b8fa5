#include "perpend/kernels/reference/attention_reference.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace perpend {
namespace {

using Row = std::span<const double>;

Row row_of(Row matrix, std::int64_t row, std::int64_t head_dim) {
  return matrix.subspan(static_cast<std::size_t>(row * head_dim),
                        static_cast<std::size_t>(head_dim));
}

// A product of two rows and the squares of its terms. The product is summed in 64 bits, so that its
// rounding is not taken for that of a kernel in f64.
struct Product {
  double sum = 0;
  double squares = 0;
};
Product product(Row a, Row b) {
  constexpr std::size_t kSums = 4;
  std::array<long double, kSums> sums{};
  std::array<double, kSums> squares{};
  const auto add = [&](std::size_t at, std::size_t to) {
    const long double term = static_cast<long double>(a[at]) * static_cast<long double>(b[at]);
    const double rounded = a[at] * b[at];
    sums[to] += term;
    squares[to] += rounded * rounded;
  };
  std::size_t i = 0;
  for (; i + kSums <= a.size(); i += kSums) {
    for (std::size_t j = 0; j < kSums; ++j) add(i + j, j);
  }
  for (; i < a.size(); ++i) add(i, 0);
  return {static_cast<double>((sums[0] + sums[1]) + (sums[2] + sums[3])),
          (squares[0] + squares[1]) + (squares[2] + squares[3])};
}

// A key that a row sees.
struct SeenKey {
  std::int64_t key = 0;
  double score = 0;
  double slope = 0;    // derivative of the score by scale * q . k
  double squares = 0;  // of the score's terms
  double p = 0;

  // What the score is measured on: a relative error of it is one of so many times as much of p.
  double size() const { return std::sqrt(std::max(score * score, squares)); }
};

// Its probability is left at 0.
SeenKey score_of(const ReferenceHead& head, std::int64_t row, std::int64_t key) {
  SeenKey entry{.key = key, .slope = 1};
  const Row q = row_of(head.q, row, head.head_dim);
  const Row k = row_of(head.k, key, head.head_dim);
  const Product scores = product(q, k);
  entry.score = head.scale * scores.sum;
  if (head.soft_cap != 0) {
    const double bend = entry.score / head.soft_cap;
    entry.score = head.soft_cap * std::tanh(bend);
    // 1 - tanh^2 would cancel where tanh is flat.
    entry.slope = 1 / (std::cosh(bend) * std::cosh(bend));
  }
  const double bias = head.alibi_slope * std::abs(static_cast<double>(head.q_offset + row - key));
  entry.score -= bias;
  entry.squares = head.scale * head.scale * scores.squares + bias * bias;
  return entry;
}

// Keys of a row on the average, by their probabilities.
double mean_size(const std::vector<SeenKey>& seen) {
  double sum = 0;
  for (const SeenKey& entry : seen) sum += entry.p * entry.size();
  return sum;
}

// The visible keys of `row` with their probabilities; returns the row's logsumexp.
double softmax_row(const ReferenceHead& head, std::int64_t row, std::vector<SeenKey>& seen) {
  seen.clear();
  double top = -std::numeric_limits<double>::infinity();
  for (std::int64_t key = 0; key < head.kv_len; ++key) {
    if (!head.sees(row, key)) continue;
    const SeenKey entry = score_of(head, row, key);
    top = std::max(top, entry.score);
    seen.push_back(entry);
  }
  double sum = 0;
  for (const SeenKey& entry : seen) sum += std::exp(entry.score - top);
  for (SeenKey& entry : seen) entry.p = std::exp(entry.score - top) / sum;
  return seen.empty() ? top : top + std::log(sum);
}

// One row of o and its logsumexp.
void add_output(const ReferenceHead& head, std::int64_t row, double lse,
                const std::vector<SeenKey>& seen, ReferenceOutput& output) {
  output.lse.push_back(lse);
  double squares = 0;
  for (const SeenKey& entry : seen) squares = std::max(squares, entry.squares);
  output.lse_squares.push_back(squares);
  const double lse_size = mean_size(seen);
  for (const SeenKey& entry : seen) {
    output.o.add_row(row, row_of(head.v, entry.key, head.head_dim), entry.p, entry.p,
                     entry.p * (entry.size() + lse_size));
  }
}

}  // namespace

void ReferenceSums::add_row(std::int64_t row, std::span<const double> terms, double factor,
                            double magnitude, double score_magnitude) {
  const std::size_t count = terms.size();
  const std::size_t first = static_cast<std::size_t>(row) * count;
  const double* const term = terms.data();
  double* const sums = values.data() + first;
  double* const sums_of_squares = squares.data() + first;
  double* const sums_of_scores = score_squares.data() + first;
  const double magnitudes = magnitude * magnitude;
  const double scores = score_magnitude * score_magnitude;
  for (std::size_t d = 0; d < count; ++d) {
    const double square = term[d] * term[d];
    sums[d] += factor * term[d];
    sums_of_squares[d] += magnitudes * square;
    sums_of_scores[d] += scores * square;
  }
}

ReferenceOutput reference_attention(const ReferenceHead& head) {
  ReferenceOutput output{ReferenceSums(head.q_len * head.head_dim), {}, {}};
  std::vector<SeenKey> seen;
  for (std::int64_t row = 0; row < head.q_len; ++row) {
    const double lse = softmax_row(head, row, seen);
    add_output(head, row, lse, seen, output);
  }
  return output;
}

ReferenceOutput reference_attention_gradients(const ReferenceHead& head, const ReferenceLoss& loss,
                                              ReferenceGradients& gradients) {
  const std::int64_t dim = head.head_dim;
  ReferenceOutput output{ReferenceSums(head.q_len * dim), {}, {}};
  std::vector<SeenKey> seen;
  std::vector<Product> dp;  // derivative by p of each seen key
  for (std::int64_t row = 0; row < head.q_len; ++row) {
    const double lse = softmax_row(head, row, seen);
    add_output(head, row, lse, seen, output);
    const Row q_row = row_of(head.q, row, dim);
    const Row d_o_row = row_of(loss.d_o, row, dim);
    const double d_lse_row = loss.d_lse[static_cast<std::size_t>(row)];
    dp.clear();
    double mean = 0;  // sum over keys of p * dp
    double mean_squares = 0;
    double mean_score_squares = 0;
    const double lse_size = mean_size(seen);
    for (const SeenKey& entry : seen) {
      dp.push_back(product(d_o_row, row_of(head.v, entry.key, dim)));
      mean += entry.p * dp.back().sum;
      const double squares = entry.p * entry.p * dp.back().squares;
      const double size = entry.size() + lse_size;
      mean_squares += squares;
      mean_score_squares += squares * size * size;
    }
    for (std::size_t i = 0; i < seen.size(); ++i) {
      const SeenKey& entry = seen[i];
      const double factor = head.scale * entry.slope * entry.p;
      const double ds = factor * (dp[i].sum - mean + d_lse_row);
      const double ds_squares = dp[i].squares + mean_squares + d_lse_row * d_lse_row;
      const double ds_magnitude = factor * std::sqrt(ds_squares);
      const double size = entry.size() + lse_size;
      const double ds_score = factor * std::sqrt(ds_squares * size * size + mean_score_squares);
      gradients.dq.add_row(row, row_of(head.k, entry.key, dim), ds, ds_magnitude, ds_score);
      gradients.dk.add_row(entry.key, q_row, ds, ds_magnitude, ds_score);
      gradients.dv.add_row(entry.key, d_o_row, entry.p, entry.p, entry.p * size);
    }
  }
  return output;
}

void reference_key_gradients(const ReferenceHead& head, std::int64_t key, const ReferenceLoss& loss,
                             std::span<const double> o, std::span<const double> lse,
                             ReferenceSums& dk, ReferenceSums& dv) {
  const Row v_row = row_of(head.v, key, head.head_dim);
  for (std::int64_t row = 0; row < head.q_len; ++row) {
    if (!head.sees(row, key)) continue;
    const SeenKey entry = score_of(head, row, key);
    const double p = std::exp(entry.score - lse[static_cast<std::size_t>(row)]);
    const Row d_o_row = row_of(loss.d_o, row, head.head_dim);
    const Row o_row = row_of(o, row, head.head_dim);
    const double d_lse = loss.d_lse[static_cast<std::size_t>(row)];
    const double factor = head.scale * entry.slope * p;
    const Product by_v = product(d_o_row, v_row);
    const Product by_o = product(d_o_row, o_row);
    const double ds = factor * (by_v.sum - by_o.sum + d_lse);
    const double magnitude = factor * std::sqrt(by_v.squares + by_o.squares + d_lse * d_lse);
    const double size = entry.size();
    dk.add_row(0, row_of(head.q, row, head.head_dim), ds, magnitude, magnitude * size);
    dv.add_row(0, d_o_row, p, p, p * size);
  }
}

}  // namespace perpend
