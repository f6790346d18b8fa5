#include "perpend/kernels/reference/attention_call.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "perpend/kernels/reference/device_copies.h"

namespace perpend {
namespace {

std::vector<std::int64_t> lengths_of(const AttentionCase& c, std::int64_t SequenceShape::*length) {
  std::vector<std::int64_t> lengths;
  lengths.reserve(c.shape.sequences.size());
  for (const SequenceShape& sequence : c.shape.sequences) lengths.push_back(sequence.*length);
  return lengths;
}

DType output_dtype(const AttentionCase& c, DType dtype) {
  return c.f32_outputs && dtype != DType::kF64 ? DType::kF32 : dtype;
}

DType lse_dtype(const AttentionCase& c) {
  return c.q_dtype == DType::kF64 ? DType::kF64 : DType::kF32;
}

Operand query_operand(const AttentionCase& c, DType dtype, std::int64_t head_dim) {
  return {dtype, lengths_of(c, &SequenceShape::q_len), c.shape.num_q_heads, head_dim, c.layout};
}

Operand key_operand(const AttentionCase& c, DType dtype) {
  // Paged keys are gathered from here, sequences of any length.
  OperandLayout layout = c.layout;
  layout.ragged = layout.ragged || c.page_size > 0;
  return {dtype, lengths_of(c, &SequenceShape::kv_len), c.shape.num_kv_heads, c.head_dim, layout};
}

Operand filled(Operand operand, const AttentionCase& c, std::uint64_t stream) {
  Random random(c.seed, stream);
  operand.fill_random(random, c.amplitude);
  return operand;
}

void copy_rows(const Operand& from, std::size_t from_sequence, std::int64_t from_token, Operand& to,
               std::size_t to_sequence, std::int64_t to_token) {
  for (int head = 0; head < from.num_heads(); ++head) {
    for (std::int64_t d = 0; d < from.head_dim(); ++d) {
      to.set(to_sequence, to_token, head, d, from.get(from_sequence, from_token, head, d));
    }
  }
}

AttentionArgs copied(const AttentionArgs& host, DeviceCopies& copies) {
  AttentionArgs args = host;
  for (TensorView* view : {&args.q, &args.k, &args.v, &args.o, &args.lse, &args.q_indptr,
                           &args.kv_indptr, &args.page_table, &args.score.alibi_slopes}) {
    *view = copies.copy(*view);
  }
  return args;
}

Operand with_sequence(const Operand& from, std::size_t sequence, Operand to) {
  for (std::int64_t t = 0; t < from.lengths()[sequence]; ++t) {
    copy_rows(from, sequence, t, to, 0, t);
  }
  return to;
}

}  // namespace

DType AttentionCase::coarsest_dtype() const {
  constexpr std::array<DType, 3> kCoarsestFirst = {DType::kBF16, DType::kF16, DType::kF32};
  for (const DType dtype : kCoarsestFirst) {
    if (q_dtype == dtype || kv_dtype == dtype) return dtype;
  }
  return DType::kF64;
}

std::ostream& operator<<(std::ostream& out, const AttentionCase& c) {
  for (const Mask& mask : c.masks) out << '"' << mask << "\" ";
  out << "q " << c.q_dtype << ", kv " << c.kv_dtype << ", heads " << c.shape.num_q_heads << "/"
      << c.shape.num_kv_heads << ", head_dim " << c.head_dim;
  if (c.page_size > 0) out << ", pages of " << c.page_size;
  if (c.layout.ragged) out << ", ragged";
  if (c.layout.head_major) out << ", head major";
  if (c.layout.gap > 0) out << ", gap " << c.layout.gap;
  if (c.f32_outputs) out << ", f32 outputs";
  if (c.without_lse) out << ", no lse";
  if (!c.d_lse) out << ", no d_lse";
  if (!c.deterministic) out << ", not deterministic";
  if (c.in_turns) out << ", in turns";
  if (c.scratch) out << ", scratch";
  if (c.scale != 0) out << ", scale " << c.scale;
  if (c.soft_cap != 0) out << ", soft cap " << c.soft_cap;
  if (c.alibi) out << ", alibi";
  for (const SequenceShape& s : c.shape.sequences) {
    out << ", (q " << s.q_len << ", kv " << s.kv_len << ", offset " << s.q_offset << ")";
  }
  return out << ", operand seed " << c.seed;
}

AttentionPlans plan(const AttentionCase& c, const AttentionTable& table) {
  return plan(c, table, [](const Tiling& offered) { return offered; });
}

AttentionPlans plan(const AttentionCase& c, const AttentionTable& table,
                    FunctionRef<Tiling(const Tiling&)> change) {
  const auto compiled = [&](Sweep sweep) {
    return compile(c.masks, c.shape, change(table.tiling(c.spec(), sweep)), sweep);
  };
  AttentionPlans plans{compiled(Sweep::kRows), {}};
  if (table.backward != nullptr && c.page_size == 0 && !c.without_lse) {
    plans.columns = compiled(Sweep::kColumns);
  }
  return plans;
}

AttentionCall::AttentionCall(const AttentionCase& c)
    : AttentionCall(c, filled(query_operand(c, c.q_dtype, c.head_dim), c, 0),
                    filled(key_operand(c, c.kv_dtype), c, 1),
                    filled(key_operand(c, c.kv_dtype), c, 2),
                    filled(query_operand(c, output_dtype(c, c.q_dtype), c.head_dim), c, 3),
                    filled(query_operand(c, lse_dtype(c), 1), c, 4)) {}

AttentionCall::AttentionCall(AttentionCase c, Operand q, Operand k, Operand v, Operand d_o,
                             Operand d_lse)
    : case_(std::move(c)),
      q_(std::move(q)),
      k_(std::move(k)),
      v_(std::move(v)),
      d_o_(std::move(d_o)),
      d_lse_(std::move(d_lse)),
      q_indptr_(q_.indptr()),
      kv_indptr_(k_.indptr()) {
  for (int head = 0; head < case_.shape.num_q_heads; ++head) {
    alibi_slopes_.push_back(
        std::exp2(-8.0F * static_cast<float>(head + 1) / static_cast<float>(q_.num_heads())));
  }
  if (case_.page_size > 0) pages_ = make_pages();
}

AttentionCall AttentionCall::alone(std::size_t sequence) const {
  AttentionCase c = case_;
  c.shape.sequences = {case_.shape.sequences[sequence]};
  if (c.masks.size() > 1) c.masks = {case_.masks[sequence]};
  return {c,
          with_sequence(q_, sequence, query_operand(c, c.q_dtype, c.head_dim)),
          with_sequence(k_, sequence, key_operand(c, c.kv_dtype)),
          with_sequence(v_, sequence, key_operand(c, c.kv_dtype)),
          with_sequence(d_o_, sequence, query_operand(c, d_o_.dtype(), c.head_dim)),
          with_sequence(d_lse_, sequence, query_operand(c, d_lse_.dtype(), 1))};
}

AttentionOutputs AttentionCall::outputs() const {
  return {query_operand(case_, output_dtype(case_, case_.q_dtype), case_.head_dim),
          query_operand(case_, lse_dtype(case_), 1),
          query_operand(case_, output_dtype(case_, case_.q_dtype), case_.head_dim),
          key_operand(case_, output_dtype(case_, case_.kv_dtype)),
          key_operand(case_, output_dtype(case_, case_.kv_dtype))};
}

AttentionArgs AttentionCall::arguments(AttentionOutputs& outputs) {
  const auto batch = static_cast<std::int64_t>(case_.shape.sequences.size());
  AttentionArgs args;
  args.q = q_.view();
  args.o = outputs.o.view();
  if (!case_.without_lse) args.lse = outputs.lse.lse_view();
  args.scale = case_.scale;
  args.score.soft_cap = case_.soft_cap;
  if (case_.scratch) args.scratch = &scratch_;
  if (case_.alibi) {
    args.score.alibi_slopes = TensorView::dense(alibi_slopes_.data(), {case_.shape.num_q_heads});
  }
  const auto indptr = [&](std::vector<std::int32_t>& values) {
    return TensorView::dense(values.data(), DType::kI32, {batch + 1});
  };
  if (case_.layout.ragged) args.q_indptr = indptr(q_indptr_);
  if (pages_) {
    args.k = pages_->k.view();
    args.v = pages_->v.view();
    args.page_table =
        TensorView::dense(pages_->table.data(), DType::kI32, {batch, pages_->max_pages});
    return args;
  }
  args.k = k_.view();
  args.v = v_.view();
  if (case_.layout.ragged) args.kv_indptr = indptr(kv_indptr_);
  return args;
}

AttentionGradArgs AttentionCall::gradient_arguments(AttentionOutputs& outputs) {
  AttentionGradArgs args;
  args.forward = arguments(outputs);
  args.d_o = d_o_.view();
  if (case_.d_lse) args.d_lse = d_lse_.lse_view();
  args.dq = outputs.dq.view();
  args.dk = outputs.dk.view();
  args.dv = outputs.dv.view();
  args.deterministic = case_.deterministic;
  args.in_turns = case_.in_turns;
  return args;
}

AttentionOutputs AttentionCall::run(const AttentionBackend& backend, const AttentionPlans& plans,
                                    ThreadPool& threads) {
  AttentionOutputs result = outputs();
  DeviceCopies copies(backend);
  AttentionGradArgs args;
  args.forward = copied(arguments(result), copies);
  backend.table.forward(args.forward, plans.rows, {&threads});
  if (plans.columns) {
    const AttentionGradArgs host = gradient_arguments(result);
    args.d_o = copies.copy(host.d_o);
    args.d_lse = copies.copy(host.d_lse);
    args.dq = copies.copy(host.dq);
    args.dk = copies.copy(host.dk);
    args.dv = copies.copy(host.dv);
    args.deterministic = host.deterministic;
    args.in_turns = host.in_turns;
    backend.table.backward(args, plans.rows, *plans.columns, {&threads});
  }
  copies.bring_back();
  return result;
}

ReferenceHead AttentionCall::reference_head(std::size_t sequence, int q_head,
                                            std::span<const double> q_rows,
                                            std::span<const double> k_rows,
                                            std::span<const double> v_rows) const {
  const SequenceShape& shape = case_.shape.sequences[sequence];
  return {
      .q = q_rows,
      .k = k_rows,
      .v = v_rows,
      .q_len = shape.q_len,
      .kv_len = shape.kv_len,
      .q_offset = shape.q_offset,
      .head_dim = case_.head_dim,
      .scale = case_.scale != 0 ? case_.scale : 1 / std::sqrt(static_cast<double>(case_.head_dim)),
      .soft_cap = case_.soft_cap,
      .alibi_slope = case_.alibi ? alibi_slopes_[static_cast<std::size_t>(q_head)] : 0.0,
      .mask = case_.masks[case_.masks.size() == 1 ? 0 : sequence],
      .index = {q_head, q_head / case_.shape.group_size()}};
}

std::vector<double> AttentionCall::d_lse_rows(std::size_t sequence, int q_head) const {
  if (case_.d_lse) return d_lse_.rows(sequence, q_head);
  return std::vector<double>(static_cast<std::size_t>(d_lse_.lengths()[sequence]));
}

// Pages are taken from the last to the first, and one of them is nobody's.
AttentionCall::Pages AttentionCall::make_pages() const {
  std::int64_t num_pages = 1;
  std::int64_t max_pages = 1;
  for (const std::int64_t length : k_.lengths()) {
    num_pages += ceil_div(length, case_.page_size);
    max_pages = std::max(max_pages, ceil_div(length, case_.page_size));
  }
  OperandLayout layout = case_.layout;
  layout.ragged = false;
  const std::vector<std::int64_t> lengths(static_cast<std::size_t>(num_pages), case_.page_size);
  const Operand empty(case_.kv_dtype, lengths, case_.shape.num_kv_heads, case_.head_dim, layout);
  Pages pages{empty, empty, {}, max_pages};
  pages.table.assign(k_.lengths().size() * static_cast<std::size_t>(max_pages), -1);
  auto next = static_cast<std::int32_t>(num_pages);
  for (std::size_t s = 0; s < k_.lengths().size(); ++s) {
    for (std::int64_t token = 0; token < k_.lengths()[s]; ++token) {
      const std::int64_t slot = token % case_.page_size;
      if (slot == 0) --next;
      const auto entry = static_cast<std::int64_t>(s) * max_pages + token / case_.page_size;
      pages.table[static_cast<std::size_t>(entry)] = next;
      copy_rows(k_, s, token, pages.k, static_cast<std::size_t>(next), slot);
      copy_rows(v_, s, token, pages.v, static_cast<std::size_t>(next), slot);
    }
  }
  return pages;
}

}  // namespace perpend
