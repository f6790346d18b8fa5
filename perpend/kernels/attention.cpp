#include "perpend/kernels/attention.h"

#include "perpend/core/demand.h"
#include "perpend/kernels/table.h"

namespace perpend {
namespace {

// Axes of q, k, v and o counted from the last: dim, heads, tokens (and batch or pages before them).
std::int64_t head_dim_of(const TensorView& view) { return view.size(view.num_axes() - 1); }
std::int64_t heads_of(const TensorView& view) { return view.size(view.num_axes() - 2); }

bool is_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

void check_operand(const TensorView& view, std::string_view name, int num_axes, std::int64_t heads,
                   std::int64_t head_dim) {
  demand(view.data != nullptr || num_elements(view.shape) == 0, "attention: ", name, " is absent");
  demand(view.num_axes() == num_axes, "attention: ", name, " must have ", num_axes, " axes (",
         view.shape, ")");
  demand(is_float(view.dtype), "attention: ", name, " must be f32, f16 or bf16 (", view.dtype, ")");
  demand_eq(heads_of(view), heads, "attention: heads of ", name, " and of the schedule differ");
  demand_eq(head_dim_of(view), head_dim, "attention: head_dim of q and ", name, " differ");
  demand(view.stride(num_axes - 1) == 1 || head_dim == 1, "attention: the last axis of ", name,
         " must be contiguous");
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

void check_dense(const TensorView& view, std::string_view name, const Schedule& schedule,
                 std::int64_t SequenceShape::*length) {
  demand_eq(view.size(0), static_cast<std::int64_t>(schedule.shape.sequences.size()),
            "attention: batch of ", name, " and of the schedule differ");
  for (const SequenceShape& sequence : schedule.shape.sequences) {
    demand_eq(view.size(1), sequence.*length, "attention: length of ", name,
              " and of the schedule differ");
  }
}

void check_pages(const AttentionArgs& args, const Schedule& schedule) {
  const TensorView& table = args.page_table;
  const auto batch = static_cast<std::int64_t>(schedule.shape.sequences.size());
  demand(table.dtype == DType::kI32 && table.num_axes() == 2 && table.size(0) == batch &&
             table.stride(1) == 1,
         "attention: page_table must be i32 [", batch, ", pages], found ", table);
  const std::int64_t page_size = args.k.size(1);
  demand_eq(page_size, args.v.size(1), "attention: page sizes of k and v differ");
  demand(page_size % schedule.plan.inner_tile == 0,
         "attention: page size must be a multiple of the key tile (", page_size, " vs ",
         schedule.plan.inner_tile, ")");
  for (const SequenceShape& sequence : schedule.shape.sequences) {
    demand(ceil_div(sequence.kv_len, page_size) <= table.size(1), "attention: page_table has ",
           table.size(1), " pages a sequence, too few for ", sequence.kv_len, " keys");
  }
}

void check_lse(const AttentionArgs& args, const Schedule& schedule) {
  if (!args.lse) return;
  const Dims expected = args.q_indptr
                            ? Dims{schedule.shape.num_q_heads, args.q.size(0)}
                            : Dims{args.q.size(0), schedule.shape.num_q_heads, args.q.size(1)};
  demand(args.lse.dtype == DType::kF32, "attention: lse must be f32 (", args.lse.dtype, ")");
  demand_eq(args.lse.shape, expected, "attention: shape of lse");
}

void check_args(const AttentionArgs& args, const Schedule& schedule) {
  const auto& sequences = schedule.shape.sequences;
  const int q_axes = args.q_indptr ? 3 : 4;
  const int kv_axes = args.kv_indptr ? 3 : 4;
  demand(args.q.num_axes() == q_axes, "attention: q must have ", q_axes, " axes (", args.q.shape,
         ")");
  const std::int64_t head_dim = head_dim_of(args.q);
  check_operand(args.q, "q", q_axes, schedule.shape.num_q_heads, head_dim);
  check_operand(args.o, "o", q_axes, schedule.shape.num_q_heads, head_dim);
  check_operand(args.k, "k", kv_axes, schedule.shape.num_kv_heads, head_dim);
  check_operand(args.v, "v", kv_axes, schedule.shape.num_kv_heads, head_dim);
  demand(args.o.dtype == args.q.dtype || args.o.dtype == DType::kF32,
         "attention: o must be f32 or the dtype of q (", args.o.dtype, ")");
  demand_eq(args.k.dtype, args.v.dtype, "attention: dtypes of k and v differ");
  demand_eq(args.q.shape, args.o.shape, "attention: shapes of q and o differ");
  check_lse(args, schedule);
  if (args.q_indptr) {
    check_indptr(args.q_indptr, "q_indptr", args.q.size(0), sequences.size(),
                 [&](std::size_t s) { return sequences[s].q_len; });
  } else {
    check_dense(args.q, "q", schedule, &SequenceShape::q_len);
  }
  if (args.page_table) {
    check_pages(args, schedule);
  } else if (args.kv_indptr) {
    demand_eq(args.k.size(0), args.v.size(0), "attention: lengths of k and v differ");
    check_indptr(args.kv_indptr, "kv_indptr", args.k.size(0), sequences.size(),
                 [&](std::size_t s) { return sequences[s].kv_len; });
  } else {
    check_dense(args.k, "k", schedule, &SequenceShape::kv_len);
    check_dense(args.v, "v", schedule, &SequenceShape::kv_len);
  }
}

}  // namespace

void attention_forward(const AttentionArgs& args, const Schedule& schedule, Stream stream) {
  const KernelTable& table = kernels_for(args.q.device);
  const auto forward = require(table.attention.forward, "attention", table);
  check_args(args, schedule);
  const AttentionSpec spec{args.q.dtype, args.k.dtype, head_dim_of(args.q),
                           static_cast<bool>(args.page_table)};
  if (!table.attention.supports(spec)) {
    throw Unsupported(concat("attention: q ", spec.q_dtype, ", k and v ", spec.kv_dtype,
                             ", head_dim ", spec.head_dim, " is not built for ", table.name,
                             "; head_dim 1 to 256 in f32, f16 and bf16 is"));
  }
  forward(args, schedule, stream);
}

void attention_backward(const AttentionGradArgs& args, const Schedule& rows,
                        const Schedule& columns, Stream stream) {
  const KernelTable& table = kernels_for(args.forward.q.device);
  const auto backward = require(table.attention.backward, "attention backward", table);
  check_args(args.forward, rows);
  backward(args, rows, columns, stream);
}

}  // namespace perpend
