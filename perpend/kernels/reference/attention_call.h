#pragma once

#include <cstdint>
#include <optional>
#include <ostream>
#include <vector>

#include "perpend/core/function_ref.h"
#include "perpend/kernels/attention.h"
#include "perpend/kernels/reference/attention_reference.h"
#include "perpend/kernels/reference/backends.h"
#include "perpend/kernels/reference/operand.h"

namespace perpend {

// What is to be run on random operands and held against the reference.
struct AttentionCase {
  AttentionShape shape;
  std::vector<Mask> masks;  // one for all sequences, or one for each
  std::int64_t head_dim = 64;
  DType q_dtype = DType::kF32;
  DType kv_dtype = DType::kF32;
  bool f32_outputs = false;    // o and the gradients in f32, whatever q and k are
  OperandLayout layout = {};   // of all operands
  std::int64_t page_size = 0;  // > 0: keys and values lie scattered over pages (forward only)
  float scale = 0;             // as in AttentionArgs
  float soft_cap = 0;
  bool alibi = false;         // slopes 2^(-8 (h + 1) / num_q_heads)
  bool without_lse = false;   // lse is not asked for (forward only)
  bool d_lse = true;          // the loss depends on lse too
  bool deterministic = true;  // as in AttentionGradArgs, and the next
  bool in_turns = false;
  bool scratch = false;  // runs share one scratch buffer
  double amplitude = 2;  // operands are uniform in [-amplitude, amplitude]
  std::uint64_t seed = 1;

  AttentionSpec spec() const { return {q_dtype, kv_dtype, head_dim, page_size > 0}; }
  // Of all operands, the one that tolerances go by.
  DType coarsest_dtype() const;
};
std::ostream& operator<<(std::ostream& out, const AttentionCase& c);

// The schedules of a case: columns where gradients are wanted.
struct AttentionPlans {
  Schedule rows;
  std::optional<Schedule> columns;
};

// Plans a case with the tiling that `table` offers, or what `change` makes of it; with columns when
// there is a backward pass that takes the case.
AttentionPlans plan(const AttentionCase& c, const AttentionTable& table);
AttentionPlans plan(const AttentionCase& c, const AttentionTable& table,
                    FunctionRef<Tiling(const Tiling&)> change);

// What a run writes.
struct AttentionOutputs {
  Operand o;
  Operand lse;  // head_dim 1
  Operand dq;
  Operand dk;
  Operand dv;
};

// Operands in memory, drawn by the seed of the case, each from a stream of its own.
class AttentionCall {
 public:
  explicit AttentionCall(const AttentionCase& c);

  // One sequence with its values as a batch of its own.
  AttentionCall alone(std::size_t sequence) const;

  // Outputs full of NaN, and the arguments of calls that write them. The arguments borrow both.
  AttentionOutputs outputs() const;
  AttentionArgs arguments(AttentionOutputs& outputs);
  AttentionGradArgs gradient_arguments(AttentionOutputs& outputs);

  // Forward, then backward where the plans have columns, on new outputs; on a GPU with copies of
  // the operands there.
  AttentionOutputs run(const AttentionBackend& backend, const AttentionPlans& plans,
                       ThreadPool& threads);

  const AttentionCase& attention_case() const { return case_; }
  const Operand& q() const { return q_; }
  const Operand& k() const { return k_; }
  const Operand& v() const { return v_; }
  const Operand& d_o() const { return d_o_; }

  // A head for the reference; the operands are rows of that head, which the result borrows.
  ReferenceHead reference_head(std::size_t sequence, int q_head, std::span<const double> q_rows,
                               std::span<const double> k_rows,
                               std::span<const double> v_rows) const;
  // [q_len]; zeros when the loss does not depend on lse.
  std::vector<double> d_lse_rows(std::size_t sequence, int q_head) const;

 private:
  struct Pages {
    Operand k;
    Operand v;
    std::vector<std::int32_t> table;  // [batch, max_pages], -1 where there is none
    std::int64_t max_pages = 0;
  };

  AttentionCall(AttentionCase c, Operand q, Operand k, Operand v, Operand d_o, Operand d_lse);
  Pages make_pages() const;

  AttentionCase case_;
  Operand q_;
  Operand k_;
  Operand v_;
  Operand d_o_;
  Operand d_lse_;
  std::vector<std::int32_t> q_indptr_;
  std::vector<std::int32_t> kv_indptr_;
  std::vector<float> alibi_slopes_;
  std::optional<Pages> pages_;
  AlignedBuffer scratch_;
};

}  // namespace perpend
