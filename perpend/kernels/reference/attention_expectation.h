#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "perpend/kernels/reference/attention_call.h"
#include "perpend/kernels/reference/attention_reference.h"
#include "perpend/kernels/reference/row_error.h"
#include "perpend/kernels/reference/tolerance.h"

namespace perpend {

// How far one output is off, and where: its worst row.
struct Deviation {
  AttentionOutput output = AttentionOutput::kO;
  double error = 0;  // as attention_tolerance() measures it; infinite for NaN
  double tolerance = 0;
  // Norm of all that is off over the norm of all rows, as far as they are finite.
  double total_error = 0;
  std::size_t sequence = 0;
  int head = 0;          // query head; key/value head of dk and dv
  std::int64_t row = 0;  // query, or key of dk and dv, counted inside the sequence
  std::int64_t dim = 0;  // the value of that row which is furthest off
  double found = 0;
  double expected = 0;
  std::int64_t num_strays = 0;  // elements written that belong to no row

  bool holds() const { return error <= tolerance && num_strays == 0; }
  // What the worst row is chosen by, since each has its own tolerance; at most 1 when it holds.
  double share() const { return error / tolerance; }
  // Fills in dim, found and expected.
  void show(const RowPair& pair);
};
std::ostream& operator<<(std::ostream& out, const Deviation& deviation);

// The deviation of one row or one lse, whose place is the caller's to name and to show. `dtype` is
// the coarsest of the operands; `least_size` as in row_error().
Deviation deviation_of(AttentionOutput output, DType dtype, const RowPair& row,
                       double least_size = 0);

// What a call must give, by the reference.
class AttentionExpectation {
 public:
  AttentionExpectation(const AttentionCall& call, bool with_gradients, ThreadPool& threads);

  // The worst row of o and lse, and of dq, dk and dv where gradients are expected.
  std::vector<Deviation> compare(const AttentionOutputs& outputs) const;

 private:
  // An output of one head, and what every comparison asks of it.
  struct Expected {
    Expected() = default;
    Expected(ReferenceSums of, std::int64_t num_rows);

    ReferenceSums sums;
    double least_size = 0;  // as row_error() takes it
    double total = 0;       // squared norm of all finite values, as far as they do not cancel
  };
  struct QueryHead {
    Expected o;
    Expected lse;  // score_squares are zero
    Expected dq;
  };
  struct KeyHead {
    Expected dk;
    Expected dv;
  };

  void expect_group(const AttentionCall& call, std::size_t sequence, int kv_head);
  const Expected& expected(AttentionOutput output, std::size_t sequence, int head) const;
  Deviation worst_row(AttentionOutput output, const Operand& found) const;

  DType dtype_;
  int num_q_heads_;
  int num_kv_heads_;
  bool with_gradients_;
  bool with_lse_;
  std::vector<QueryHead> query_heads_;  // [sequences, num_q_heads]
  std::vector<KeyHead> key_heads_;      // [sequences, num_kv_heads]
};

}  // namespace perpend
