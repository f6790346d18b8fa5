#include "perpend/kernels/reference/attention_samples.h"

#include <utility>

namespace perpend {
namespace {

struct Place {
  std::size_t sequence = 0;
  int head = 0;
  std::int64_t row = 0;
};

std::vector<double> row_of(const Operand& operand, const Place& at) {
  std::vector<double> row(static_cast<std::size_t>(operand.head_dim()));
  for (std::size_t d = 0; d < row.size(); ++d) {
    row[d] = operand.get(at.sequence, at.row, at.head, static_cast<std::int64_t>(d));
  }
  return row;
}

class Samples {
 public:
  Samples(const AttentionCall& call, const AttentionOutputs& outputs)
      : call_(call),
        outputs_(outputs),
        dtype_(call.attention_case().coarsest_dtype()),
        head_dim_(call.q().head_dim()) {}

  // A row is a head of one query at its own position.
  void check_query(const Place& at, bool with_gradients) {
    const int kv_head = at.head / call_.attention_case().shape.group_size();
    const std::vector<double> q = row_of(call_.q(), at);
    const std::vector<double> k = call_.k().rows(at.sequence, kv_head);
    const std::vector<double> v = call_.v().rows(at.sequence, kv_head);
    ReferenceHead head = call_.reference_head(at.sequence, at.head, q, k, v);
    head.q_len = 1;
    head.q_offset += at.row;
    const ReferenceOutput expected = reference_attention(head);
    add(AttentionOutput::kO, outputs_.o, at, expected.o);
    const double lse = outputs_.lse.get(at.sequence, at.row, at.head, 0);
    keep(AttentionOutput::kLse, at, {std::span(&lse, 1), expected.lse, expected.lse_squares});
    if (!with_gradients) return;
    const auto kv_size = static_cast<std::int64_t>(k.size());
    ReferenceGradients gradients{ReferenceSums(head_dim_), ReferenceSums(kv_size),
                                 ReferenceSums(kv_size)};
    const std::vector<double> d_o = row_of(call_.d_o(), at);
    const std::vector<double> d_lse = {
        call_.d_lse_rows(at.sequence, at.head)[static_cast<std::size_t>(at.row)]};
    reference_attention_gradients(head, {d_o, d_lse}, gradients);
    add(AttentionOutput::kDq, outputs_.dq, at, gradients.dq);
  }

  void check_key(const Place& at) {
    const std::vector<double> k = call_.k().rows(at.sequence, at.head);
    const std::vector<double> v = call_.v().rows(at.sequence, at.head);
    ReferenceSums dk(head_dim_);
    ReferenceSums dv(head_dim_);
    const int group = call_.attention_case().shape.group_size();
    for (int q_head = at.head * group; q_head < (at.head + 1) * group; ++q_head) {
      const std::vector<double> q = call_.q().rows(at.sequence, q_head);
      const std::vector<double> d_o = call_.d_o().rows(at.sequence, q_head);
      const std::vector<double> d_lse = call_.d_lse_rows(at.sequence, q_head);
      reference_key_gradients(call_.reference_head(at.sequence, q_head, q, k, v), at.row,
                              {d_o, d_lse}, outputs_.o.rows(at.sequence, q_head),
                              outputs_.lse.rows(at.sequence, q_head), dk, dv);
    }
    add(AttentionOutput::kDk, outputs_.dk, at, dk);
    add(AttentionOutput::kDv, outputs_.dv, at, dv);
  }

  std::vector<Deviation> take() { return std::move(worst_); }

 private:
  void add(AttentionOutput output, const Operand& found, const Place& at,
           const ReferenceSums& expected) {
    const std::vector<double> row = row_of(found, at);
    keep(output, at, {row, expected.values, expected.squares, expected.score_squares});
  }

  void keep(AttentionOutput output, const Place& at, const RowPair& row) {
    Deviation deviation = deviation_of(output, dtype_, row);
    deviation.show(row);
    deviation.sequence = at.sequence;
    deviation.head = at.head;
    deviation.row = at.row;
    for (Deviation& worst : worst_) {
      if (worst.output != output) continue;
      if (deviation.share() > worst.share()) worst = deviation;
      return;
    }
    worst_.push_back(deviation);
  }

  const AttentionCall& call_;
  const AttentionOutputs& outputs_;
  DType dtype_;
  std::int64_t head_dim_;
  std::vector<Deviation> worst_;
};

}  // namespace

std::vector<Deviation> compare_samples(const AttentionCall& call, const AttentionOutputs& outputs,
                                       bool with_gradients, int count, Random& random) {
  Samples samples(call, outputs);
  const auto below = [&](std::int64_t bound) {
    return static_cast<std::int64_t>(random.next_below(static_cast<std::uint64_t>(bound)));
  };
  const auto place = [&](const Operand& operand, bool last) {
    const std::vector<std::int64_t>& lengths = operand.lengths();
    const auto s = static_cast<std::size_t>(below(static_cast<std::int64_t>(lengths.size())));
    const auto head = static_cast<int>(below(operand.num_heads()));
    return Place{s, head, last ? lengths[s] - 1 : below(lengths[s])};
  };
  for (int i = 0; i < count; ++i) {
    samples.check_query(place(call.q(), i == 0), with_gradients);
    if (with_gradients) samples.check_key(place(call.k(), i == 0));
  }
  return samples.take();
}

}  // namespace perpend
