#include "perpend/kernels/reference/attention_expectation.h"

#include <algorithm>
#include <cmath>

namespace perpend {
namespace {

// Rows far smaller than the others of their head are measured on this part of the others' size:
// below it a rounding error of some large term is all that is left of them.
constexpr double kSmallRow = 0.01;

double squared_distance(const std::vector<double>& found, const std::vector<double>& expected) {
  double sum = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (std::isinf(expected[i])) continue;
    sum += (found[i] - expected[i]) * (found[i] - expected[i]);
  }
  return sum;
}

}  // namespace

AttentionExpectation::Expected::Expected(ReferenceSums of, std::int64_t num_rows)
    : sums(std::move(of)) {
  double squares = 0;
  for (std::size_t i = 0; i < sums.values.size(); ++i) {
    squares += sums.squares[i];
    if (std::isinf(sums.values[i])) continue;
    total += std::max(sums.values[i] * sums.values[i], sums.squares[i]);
  }
  if (num_rows != 0) least_size = kSmallRow * std::sqrt(squares / static_cast<double>(num_rows));
}

std::ostream& operator<<(std::ostream& out, const Deviation& d) {
  out << name_of(d.output) << ": error " << d.error << " (tolerance " << d.tolerance
      << ") in sequence " << d.sequence << ", head " << d.head << ", row " << d.row << ", dim "
      << d.dim << ": " << d.found << ", expected " << d.expected;
  if (d.num_strays > 0) out << "; " << d.num_strays << " elements outside all rows were written";
  return out;
}

Deviation deviation_of(AttentionOutput output, DType dtype, const RowPair& row, double least_size) {
  const bool is_lse = output == AttentionOutput::kLse;
  const RowError off = is_lse ? RowError{.error = lse_error(row)} : row_error(row, least_size);
  return {.output = output,
          .error = off.error,
          .tolerance = attention_tolerance(dtype, output, off.score_size,
                                           static_cast<std::int64_t>(row.expected.size()))};
}

void Deviation::show(const RowPair& pair) {
  dim = furthest_dim(pair);
  found = pair.found[static_cast<std::size_t>(dim)];
  expected = pair.expected[static_cast<std::size_t>(dim)];
}

AttentionExpectation::AttentionExpectation(const AttentionCall& call, bool with_gradients,
                                           ThreadPool& threads)
    : dtype_(call.attention_case().coarsest_dtype()),
      num_q_heads_(call.q().num_heads()),
      num_kv_heads_(call.k().num_heads()),
      with_gradients_(with_gradients),
      with_lse_(!call.attention_case().without_lse) {
  const std::size_t num_sequences = call.q().lengths().size();
  query_heads_.resize(num_sequences * static_cast<std::size_t>(num_q_heads_));
  key_heads_.resize(num_sequences * static_cast<std::size_t>(num_kv_heads_));
  threads.parallel_for(static_cast<std::int64_t>(key_heads_.size()), 1, [&](Range range) {
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      expect_group(call, static_cast<std::size_t>(i / num_kv_heads_),
                   static_cast<int>(i % num_kv_heads_));
    }
  });
}

// All query heads of one key/value head, whose dk and dv add up.
void AttentionExpectation::expect_group(const AttentionCall& call, std::size_t sequence,
                                        int kv_head) {
  const AttentionCase& c = call.attention_case();
  const SequenceShape& shape = c.shape.sequences[sequence];
  const std::vector<double> k = call.k().rows(sequence, kv_head);
  const std::vector<double> v = call.v().rows(sequence, kv_head);
  ReferenceGradients gradients{ReferenceSums(), ReferenceSums(shape.kv_len * c.head_dim),
                               ReferenceSums(shape.kv_len * c.head_dim)};
  const int group = c.shape.group_size();
  for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    const std::vector<double> q = call.q().rows(sequence, head);
    const ReferenceHead reference = call.reference_head(sequence, head, q, k, v);
    QueryHead& result = query_heads_[sequence * static_cast<std::size_t>(num_q_heads_) +
                                     static_cast<std::size_t>(head)];
    ReferenceOutput output;
    if (with_gradients_) {
      const std::vector<double> d_o = call.d_o().rows(sequence, head);
      const std::vector<double> d_lse = call.d_lse_rows(sequence, head);
      gradients.dq = ReferenceSums(shape.q_len * c.head_dim);
      output = reference_attention_gradients(reference, {d_o, d_lse}, gradients);
      result.dq = {std::move(gradients.dq), shape.q_len};
    } else {
      output = reference_attention(reference);
    }
    result.o = {std::move(output.o), shape.q_len};
    ReferenceSums lse(shape.q_len);
    lse.values = std::move(output.lse);
    lse.squares = std::move(output.lse_squares);
    result.lse = {std::move(lse), shape.q_len};
  }
  key_heads_[sequence * static_cast<std::size_t>(num_kv_heads_) +
             static_cast<std::size_t>(kv_head)] = {{std::move(gradients.dk), shape.kv_len},
                                                   {std::move(gradients.dv), shape.kv_len}};
}

const AttentionExpectation::Expected& AttentionExpectation::expected(AttentionOutput output,
                                                                     std::size_t sequence,
                                                                     int head) const {
  const auto h = static_cast<std::size_t>(head);
  const QueryHead& query = query_heads_[sequence * static_cast<std::size_t>(num_q_heads_) + h];
  switch (output) {
    case AttentionOutput::kO:
      return query.o;
    case AttentionOutput::kLse:
      return query.lse;
    case AttentionOutput::kDq:
      return query.dq;
    default:
      break;
  }
  const KeyHead& keys = key_heads_[sequence * static_cast<std::size_t>(num_kv_heads_) + h];
  return output == AttentionOutput::kDk ? keys.dk : keys.dv;
}

Deviation AttentionExpectation::worst_row(AttentionOutput output, const Operand& found) const {
  Deviation worst{.output = output, .error = -1, .tolerance = attention_tolerance(dtype_, output)};
  const auto dim = static_cast<std::size_t>(found.head_dim());
  double total_off = 0;
  double total = 0;
  for (std::size_t s = 0; s < found.lengths().size(); ++s) {
    for (int head = 0; head < found.num_heads(); ++head) {
      const Expected& head_of = expected(output, s, head);
      const ReferenceSums& sums = head_of.sums;
      const std::vector<double> rows = found.rows(s, head);
      total_off += squared_distance(rows, sums.values);
      total += head_of.total;
      for (std::int64_t row = 0; row < found.lengths()[s]; ++row) {
        const std::size_t at = static_cast<std::size_t>(row) * dim;
        const auto row_of = [&](const std::vector<double>& values) {
          return std::span(values).subspan(at, dim);
        };
        const RowPair pair{row_of(rows), row_of(sums.values), row_of(sums.squares),
                           row_of(sums.score_squares)};
        Deviation deviation = deviation_of(output, dtype_, pair, head_of.least_size);
        if (deviation.share() <= worst.share()) continue;
        deviation.show(pair);
        deviation.sequence = s;
        deviation.head = head;
        deviation.row = row;
        worst = deviation;
      }
    }
  }
  worst.error = std::max(worst.error, 0.0);  // no row at all
  worst.num_strays = found.num_strays();
  if (total > 0) worst.total_error = std::sqrt(total_off / total);
  return worst;
}

std::vector<Deviation> AttentionExpectation::compare(const AttentionOutputs& outputs) const {
  std::vector<Deviation> result = {worst_row(AttentionOutput::kO, outputs.o)};
  if (with_lse_) result.push_back(worst_row(AttentionOutput::kLse, outputs.lse));
  if (with_gradients_) {
    result.push_back(worst_row(AttentionOutput::kDq, outputs.dq));
    result.push_back(worst_row(AttentionOutput::kDk, outputs.dk));
    result.push_back(worst_row(AttentionOutput::kDv, outputs.dv));
  }
  return result;
}

}  // namespace perpend
