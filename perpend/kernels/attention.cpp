#include "perpend/kernels/attention.h"

#include "perpend/core/demand.h"
#include "perpend/kernels/block_attention.h"
#include "perpend/kernels/table.h"

namespace perpend {
namespace {

// Axes of q, k, v and o counted from the last: dim, heads, tokens (and batch or pages before them).
std::int64_t head_dim_of(const TensorView& view) { return view.size(view.num_axes() - 1); }
std::int64_t heads_of(const TensorView& view) { return view.size(view.num_axes() - 2); }

bool is_float(DType dtype) {
  return dtype == DType::kF64 || dtype == DType::kF32 || dtype == DType::kF16 ||
         dtype == DType::kBF16;
}

void check_device(const TensorView& view, std::string_view name, Device device) {
  demand(!view || view.device == device, "attention: ", name, " is on ", view.device, ", q on ",
         device);
}

void check_operand(const TensorView& view, std::string_view name, int num_axes, std::int64_t heads,
                   std::int64_t head_dim) {
  const bool is_empty = num_elements(view.shape) == 0;
  demand(view.data != nullptr || is_empty, "attention: ", name, " is absent");
  demand(view.num_axes() == num_axes, "attention: ", name, " must have ", num_axes, " axes (",
         view.shape, ")");
  demand(is_float(view.dtype), "attention: ", name, " must be f32, f16, bf16 or f64 (", view.dtype,
         ")");
  demand_eq(heads_of(view), heads, "attention: heads of ", name, " and of the schedule differ");
  demand_eq(head_dim_of(view), head_dim, "attention: head_dim of q and ", name, " differ");
  demand(view.stride(num_axes - 1) == 1 || head_dim == 1 || is_empty,
         "attention: the last axis of ", name, " must be contiguous");
}

void check_devices(const AttentionArgs& args) {
  const Device device = args.q.device;
  check_device(args.k, "k", device);
  check_device(args.v, "v", device);
  check_device(args.o, "o", device);
  check_device(args.lse, "lse", device);
  check_device(args.page_table, "page_table", device);
  check_device(args.score.alibi_slopes, "alibi_slopes", device);
  // A GPU's kernels know from the schedule what indptrs tell.
  if (args.q_indptr.device.type != DeviceType::kCpu)
    check_device(args.q_indptr, "q_indptr", device);
  if (args.kv_indptr.device.type != DeviceType::kCpu) {
    check_device(args.kv_indptr, "kv_indptr", device);
  }
}

// Sequence s of a ragged batch must have `length(s)` tokens.
template <class Length>
void check_indptr(const TensorView& indptr, std::string_view name, std::int64_t total,
                  std::size_t num_sequences, Length length) {
  demand(indptr.dtype == DType::kI32 && indptr.num_axes() == 1 && indptr.is_contiguous() &&
             indptr.size(0) == static_cast<std::int64_t>(num_sequences) + 1,
         "attention: ", name, " must be dense i32 [", num_sequences + 1, "], found ", indptr);
  // On a GPU the values can not be read here; the schedule decides what is run.
  if (indptr.device.type != DeviceType::kCpu) return;
  const auto* values = indptr.as<const std::int32_t>();
  for (std::size_t s = 0; s < num_sequences; ++s) {
    demand(values[s] >= 0 && values[s + 1] <= total, "attention: ", name, " reaches beyond its ",
           total, " tokens");
    demand_eq(static_cast<std::int64_t>(values[s + 1] - values[s]), length(s), "attention: ", name,
              " and the schedule differ in the length of sequence ", s);
  }
}

void check_dense(const TensorView& view, std::string_view name, const AttentionShape& shape,
                 std::int64_t SequenceShape::*length) {
  demand_eq(view.size(0), static_cast<std::int64_t>(shape.sequences.size()), "attention: batch of ",
            name, " and of the schedule differ");
  for (const SequenceShape& sequence : shape.sequences) {
    demand_eq(view.size(1), sequence.*length, "attention: length of ", name,
              " and of the schedule differ");
  }
}

void check_pages(const AttentionArgs& args, const AttentionShape& shape) {
  const TensorView& table = args.page_table;
  const auto batch = static_cast<std::int64_t>(shape.sequences.size());
  demand(table.dtype == DType::kI32 && table.num_axes() == 2 && table.size(0) == batch &&
             table.stride(1) == 1,
         "attention: page_table must be i32 [", batch, ", pages], found ", table);
  const std::int64_t page_size = args.k.size(1);
  demand_eq(page_size, args.v.size(1), "attention: page sizes of k and v differ");
  for (const SequenceShape& sequence : shape.sequences) {
    demand(ceil_div(sequence.kv_len, page_size) <= table.size(1), "attention: page_table has ",
           table.size(1), " pages a sequence, too few for ", sequence.kv_len, " keys");
  }
}

// lse or its gradient, where there is one.
void check_lse(const AttentionArgs& args, const TensorView& lse, std::string_view name,
               const AttentionShape& shape) {
  if (!lse) return;
  const Dims expected = args.q_indptr ? Dims{shape.num_q_heads, args.q.size(0)}
                                      : Dims{args.q.size(0), shape.num_q_heads, args.q.size(1)};
  const DType dtype = args.q.dtype == DType::kF64 ? DType::kF64 : DType::kF32;
  demand(lse.dtype == dtype, "attention: ", name, " must be ", dtype, " (", lse.dtype, ")");
  demand_eq(lse.shape, expected, "attention: shape of ", name);
}

void check_score(const ScoreChange& score, const AttentionShape& shape) {
  demand(score.soft_cap >= 0.0F, "attention: soft_cap must not be negative (", score.soft_cap, ")");
  if (!score.alibi_slopes) return;
  demand(score.alibi_slopes.dtype == DType::kF32 &&
             score.alibi_slopes.shape == Dims{shape.num_q_heads},
         "attention: alibi_slopes must be f32 [", shape.num_q_heads, "], found ",
         score.alibi_slopes);
}

void check_args(const AttentionArgs& args, const AttentionShape& shape) {
  check_devices(args);
  const auto& sequences = shape.sequences;
  const int q_axes = args.q_indptr ? 3 : 4;
  const int kv_axes = args.kv_indptr ? 3 : 4;
  demand(args.q.num_axes() == q_axes, "attention: q must have ", q_axes, " axes (", args.q.shape,
         ")");
  const std::int64_t head_dim = head_dim_of(args.q);
  check_operand(args.q, "q", q_axes, shape.num_q_heads, head_dim);
  check_operand(args.o, "o", q_axes, shape.num_q_heads, head_dim);
  check_operand(args.k, "k", kv_axes, shape.num_kv_heads, head_dim);
  check_operand(args.v, "v", kv_axes, shape.num_kv_heads, head_dim);
  demand(args.o.dtype == args.q.dtype || args.o.dtype == DType::kF32,
         "attention: o must be f32 or the dtype of q (", args.o.dtype, ")");
  demand_eq(args.k.dtype, args.v.dtype, "attention: dtypes of k and v differ");
  demand_eq(args.q.shape, args.o.shape, "attention: shapes of q and o differ");
  demand_eq(args.q.dtype == DType::kF64, args.k.dtype == DType::kF64,
            "attention: f64 is for q and for k and v, or for none of them");
  demand(args.q.dtype != DType::kF64 || args.o.dtype == DType::kF64,
         "attention: o must be f64 like q (", args.o.dtype, ")");
  check_lse(args, args.lse, "lse", shape);
  check_score(args.score, shape);
  if (args.q_indptr) {
    check_indptr(args.q_indptr, "q_indptr", args.q.size(0), sequences.size(),
                 [&](std::size_t s) { return sequences[s].q_len; });
  } else {
    check_dense(args.q, "q", shape, &SequenceShape::q_len);
  }
  if (args.page_table) {
    check_pages(args, shape);
  } else if (args.kv_indptr) {
    demand_eq(args.k.size(0), args.v.size(0), "attention: lengths of k and v differ");
    check_indptr(args.kv_indptr, "kv_indptr", args.k.size(0), sequences.size(),
                 [&](std::size_t s) { return sequences[s].kv_len; });
  } else {
    check_dense(args.k, "k", shape, &SequenceShape::kv_len);
    check_dense(args.v, "v", shape, &SequenceShape::kv_len);
  }
}

// A gradient has the shape of what it is for, and its dtype or f32.
void check_gradient(const TensorView& gradient, std::string_view name, const TensorView& of,
                    std::int64_t heads) {
  check_operand(gradient, name, of.num_axes(), heads, head_dim_of(of));
  demand_eq(gradient.shape, of.shape, "attention: shape of ", name);
  demand(gradient.dtype == of.dtype || (gradient.dtype == DType::kF32 && of.dtype != DType::kF64),
         "attention: ", name, " must be f32 or ", of.dtype, " (", gradient.dtype, ")");
}

void check_grad_args(const AttentionGradArgs& args, const AttentionShape& shape) {
  const AttentionArgs& forward = args.forward;
  check_args(forward, shape);
  const Device device = forward.q.device;
  check_device(args.d_o, "d_o", device);
  check_device(args.d_lse, "d_lse", device);
  check_device(args.dq, "dq", device);
  check_device(args.dk, "dk", device);
  check_device(args.dv, "dv", device);
  demand(!forward.page_table, "attention backward: keys and values must not be paged");
  demand(forward.lse || num_elements(forward.q.shape) == 0, "attention backward: lse is absent");
  check_lse(forward, args.d_lse, "d_lse", shape);
  demand_eq(args.d_o.dtype, forward.o.dtype, "attention: dtypes of o and d_o differ");
  const int q_heads = shape.num_q_heads;
  const int kv_heads = shape.num_kv_heads;
  check_gradient(args.d_o, "d_o", forward.o, q_heads);
  check_gradient(args.dq, "dq", forward.q, q_heads);
  check_gradient(args.dk, "dk", forward.k, kv_heads);
  check_gradient(args.dv, "dv", forward.v, kv_heads);
}

AttentionSpec spec_of(const AttentionArgs& args) {
  return {args.q.dtype, args.k.dtype, head_dim_of(args.q), static_cast<bool>(args.page_table)};
}

}  // namespace

void check_supported(const AttentionSpec& spec, Device device) {
  const KernelTable& table = kernels_for(device);
  if (require(table.attention.supports, "attention", table)(spec)) return;
  throw Unsupported(concat("attention: q ", spec.q_dtype, ", k and v ", spec.kv_dtype,
                           ", head_dim ", spec.head_dim, " is not built for ", table.name, "; ",
                           table.attention.supported, " is"));
}

void attention_forward(const AttentionArgs& args, const Schedule& schedule, Stream stream) {
  const KernelTable& table = kernels_for(args.q.device);
  const auto forward = require(table.attention.forward, "attention", table);
  check_args(args, schedule.shape);
  demand(schedule.sweep == Sweep::kRows, "attention: expected a schedule of rows");
  check_supported(spec_of(args), args.q.device);
  forward(args, schedule, stream);
}

void attention_forward(const AttentionArgs& args, const AttentionPlan& plan, Stream stream) {
  check_args(args, plan.shape());
  plan.forward(args, stream);
}

PlanCapacity plan_capacity(const AttentionSpec& spec, const Schedule& schedule, Device device) {
  const KernelTable& table = kernels_for(device);
  const auto capacity = require(table.attention.plan_capacity, "attention plan", table);
  check_supported(spec, device);
  return capacity(spec, schedule);
}

std::unique_ptr<AttentionPlan> make_attention_plan(const AttentionSpec& spec,
                                                   const PlanCapacity& capacity, Device device) {
  const KernelTable& table = kernels_for(device);
  const auto make = require(table.attention.make_plan, "attention plan", table);
  check_supported(spec, device);
  return make(spec, capacity, device);
}

void attention_backward(const AttentionGradArgs& args, const Schedule& rows,
                        const Schedule& columns, Stream stream) {
  const KernelTable& table = kernels_for(args.forward.q.device);
  const auto backward = require(table.attention.backward, "attention backward", table);
  demand(rows.sweep == Sweep::kRows && columns.sweep == Sweep::kColumns,
         "attention backward: expected a schedule of rows and one of columns");
  demand(rows.shape == columns.shape,
         "attention backward: the schedules of rows and columns are of different shapes");
  check_grad_args(args, rows.shape);
  check_supported(spec_of(args.forward), args.forward.q.device);
  backward(args, rows, columns, stream);
}

AttentionShape BlockAttentionSpec::shape() const {
  const SequenceShape sequence{q_len, kv_len, q_offset};
  return {std::vector(static_cast<std::size_t>(batch), sequence), num_q_heads, num_kv_heads};
}

std::shared_ptr<const BlockAttentionTables> make_block_attention_tables(
    const BlockAttentionSpec& spec, Device device) {
  const KernelTable& table = kernels_for(device);
  const auto make = require(table.attention.make_block_tables, "block attention", table);
  check_supported(spec.attention, device);
  return make(spec, device);
}

std::unique_ptr<BlockAttentionPlan> make_block_attention_plan(const BlockAttentionSpec& spec,
                                                              Device device) {
  const auto tables = make_block_attention_tables(spec, device);
  return kernels_for(device).attention.make_block_plan(tables, nullptr);
}

std::unique_ptr<BlockAttentionPlan> make_block_attention_plan(
    const std::shared_ptr<const BlockAttentionTables>& tables, Stream stream) {
  return kernels_for(tables->device()).attention.make_block_plan(tables, &stream);
}

void attention_forward(const AttentionArgs& args, const BlockAttentionPlan& plan, Stream stream) {
  check_args(args, plan.shape());
  demand(!args.page_table, "block attention: keys and values must not be paged");
  plan.forward(args, stream);
}

void attention_backward(const AttentionGradArgs& args, const BlockAttentionPlan& plan,
                        Stream stream) {
  check_grad_args(args, plan.shape());
  demand(plan.spec().gradients, "block attention: the plan was made without gradients");
  plan.backward(args, stream);
}

}  // namespace perpend
