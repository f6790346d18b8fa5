#include "perpend/kernels/reference/attention_reference.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace perpend {
namespace {

using Row = std::span<const double>;

Row row_of(Row matrix, std::int64_t row, std::int64_t head_dim) {
  return matrix.subspan(static_cast<std::size_t>(row * head_dim),
                        static_cast<std::size_t>(head_dim));
}

double dot(Row a, Row b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// Of the terms of dot(a, b).
double dot_squares(Row a, Row b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i] * a[i] * b[i];
  return sum;
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
  entry.score = head.scale * dot(q, k);
  if (head.soft_cap != 0) {
    const double bend = entry.score / head.soft_cap;
    entry.score = head.soft_cap * std::tanh(bend);
    // 1 - tanh^2 would cancel where tanh is flat.
    entry.slope = 1 / (std::cosh(bend) * std::cosh(bend));
  }
  const double bias = head.alibi_slope * std::abs(static_cast<double>(head.q_offset + row - key));
  entry.score -= bias;
  entry.squares = head.scale * head.scale * dot_squares(q, k) + bias * bias;
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

}  // namespace

ReferenceOutput reference_attention(const ReferenceHead& head) {
  ReferenceOutput output{ReferenceSums(head.q_len * head.head_dim), {}, {}};
  std::vector<SeenKey> seen;
  for (std::int64_t row = 0; row < head.q_len; ++row) {
    output.lse.push_back(softmax_row(head, row, seen));
    double squares = 0;
    for (const SeenKey& entry : seen) squares = std::max(squares, entry.squares);
    output.lse_squares.push_back(squares);
    const double lse_size = mean_size(seen);
    for (const SeenKey& entry : seen) {
      const double size = entry.size() + lse_size;
      for (std::int64_t d = 0; d < head.head_dim; ++d) {
        const double term =
            entry.p * head.v[static_cast<std::size_t>(entry.key * head.head_dim + d)];
        output.o.add(row * head.head_dim + d, term, term, term * size);
      }
    }
  }
  return output;
}

void reference_attention_gradients(const ReferenceHead& head, const ReferenceLoss& loss,
                                   ReferenceGradients& gradients) {
  const std::int64_t dim = head.head_dim;
  std::vector<SeenKey> seen;
  std::vector<double> dp;          // derivative by p of each seen key
  std::vector<double> dp_squares;  // and the squares of its terms
  for (std::int64_t row = 0; row < head.q_len; ++row) {
    softmax_row(head, row, seen);
    const Row q_row = row_of(head.q, row, dim);
    const Row d_o_row = row_of(loss.d_o, row, dim);
    const double d_lse_row = loss.d_lse[static_cast<std::size_t>(row)];
    dp.clear();
    dp_squares.clear();
    double mean = 0;  // sum over keys of p * dp
    double mean_squares = 0;
    double mean_score_squares = 0;
    const double lse_size = mean_size(seen);
    for (const SeenKey& entry : seen) {
      const Row v_row = row_of(head.v, entry.key, dim);
      dp.push_back(dot(d_o_row, v_row));
      dp_squares.push_back(dot_squares(d_o_row, v_row));
      mean += entry.p * dp.back();
      const double squares = entry.p * entry.p * dp_squares.back();
      const double size = entry.size() + lse_size;
      mean_squares += squares;
      mean_score_squares += squares * size * size;
    }
    for (std::size_t i = 0; i < seen.size(); ++i) {
      const SeenKey& entry = seen[i];
      const double factor = head.scale * entry.slope * entry.p;
      const double ds = factor * (dp[i] - mean + d_lse_row);
      const double ds_squares = dp_squares[i] + mean_squares + d_lse_row * d_lse_row;
      const double ds_magnitude = factor * std::sqrt(ds_squares);
      const double size = entry.size() + lse_size;
      const double ds_score = factor * std::sqrt(ds_squares * size * size + mean_score_squares);
      const Row k_row = row_of(head.k, entry.key, dim);
      for (std::int64_t d = 0; d < dim; ++d) {
        const auto at = static_cast<std::size_t>(d);
        const double dv = entry.p * d_o_row[at];
        gradients.dq.add(row * dim + d, ds * k_row[at], ds_magnitude * k_row[at],
                         ds_score * k_row[at]);
        gradients.dk.add(entry.key * dim + d, ds * q_row[at], ds_magnitude * q_row[at],
                         ds_score * q_row[at]);
        gradients.dv.add(entry.key * dim + d, dv, dv, dv * size);
      }
    }
  }
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
    const double ds = factor * (dot(d_o_row, v_row) - dot(d_o_row, o_row) + d_lse);
    const double magnitude = factor * std::sqrt(dot_squares(d_o_row, v_row) +
                                                dot_squares(d_o_row, o_row) + d_lse * d_lse);
    const double size = entry.size();
    const Row q_row = row_of(head.q, row, head.head_dim);
    for (std::size_t d = 0; d < q_row.size(); ++d) {
      const double term = p * d_o_row[d];
      dk.add(static_cast<std::int64_t>(d), ds * q_row[d], magnitude * q_row[d],
             magnitude * q_row[d] * size);
      dv.add(static_cast<std::int64_t>(d), term, term, term * size);
    }
  }
}

}  // namespace perpend
