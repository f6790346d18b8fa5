#include "perpend/kernels/fused_checks.h"

#include <algorithm>
#include <string_view>

#include "perpend/core/demand.h"

namespace perpend {
namespace {

void check_axes(const TensorView& view, std::string_view what, int num_axes) {
  demand(view.num_axes() == num_axes, what, ": expected ", num_axes, " axes, found ", view.shape);
}

// `of` gives the device that all views of the call must be on.
void check_rows(const TensorView& view, std::string_view what, const Dims& shape,
                const TensorView& of, DType dtype = DType::kF32) {
  demand(view.dtype == dtype && view.shape == shape &&
             (view.stride(view.num_axes() - 1) == 1 || shape[shape.size() - 1] <= 1),
         what, ": expected ", dtype, " ", shape, " with a contiguous last axis, found ", view);
  demand(view.data != nullptr || num_elements(shape) == 0, what, " is absent");
  demand_eq(view.device, of.device, what, ": devices of the operands differ");
}

bool is_16_bit_float(DType dtype) { return dtype == DType::kF16 || dtype == DType::kBF16; }

// f32 everywhere; the 16-bit types only where a GPU's kernels take them.
void check_element(const TensorView& view, std::string_view what) {
  const bool on_gpu = view.device.type == DeviceType::kCuda;
  demand(view.dtype == DType::kF32 || (on_gpu && is_16_bit_float(view.dtype)), what,
         on_gpu ? " must be f32, f16 or bf16 (" : " must be f32 on a CPU (", view.dtype, ")");
}

template <class Value>
void check_values(const TensorView& view, std::string_view what, std::int64_t end) {
  if (view.device.type != DeviceType::kCpu) return;
  const auto* values = view.as<const Value>();
  for (std::int64_t i = 0; i < view.size(0); ++i) {
    demand(values[i] >= 0 && values[i] < end, what, " must lie in [0, ", end, ") (found ",
           values[i], " at ", i, ")");
  }
}

void check_pages(const TensorView& pages, std::string_view what, const RotaryCacheArgs& args) {
  demand(pages.dtype == DType::kF32 || pages.dtype == DType::kF16 || pages.dtype == DType::kBF16,
         what, " must be f32, f16 or bf16 (", pages.dtype, ")");
  check_rows(pages, what,
             {args.k_pages.size(0), args.k_pages.size(1), args.k.size(1), args.q.size(2)}, args.q,
             pages.dtype);
}

}  // namespace

void check_rms_norm(const RmsNormArgs& args) {
  check_axes(args.x, "rms_norm: x", 2);
  const std::int64_t dim = args.x.size(1);
  check_rows(args.x, "rms_norm: x", args.x.shape, args.x);
  check_element(args.out, "rms_norm: out");
  check_rows(args.out, "rms_norm: out", args.x.shape, args.x, args.out.dtype);
  check_rows(args.weight, "rms_norm: weight", {dim}, args.x);
  if (args.residual) check_rows(args.residual, "rms_norm: residual", args.x.shape, args.x);
}

namespace {

void check_rotary_keys(const RotaryCacheArgs& args) {
  check_axes(args.k, "rotary: k", 3);
  check_axes(args.k_pages, "rotary: k_pages", 4);
  const std::int64_t rows = args.q.size(0);
  const Dims kv_shape = {rows, args.k.size(1), args.q.size(2)};
  check_rows(args.k, "rotary: k", kv_shape, args.q, args.q.dtype);
  check_rows(args.v, "rotary: v", kv_shape, args.q, args.q.dtype);
  check_pages(args.k_pages, "rotary: k_pages", args);
  check_pages(args.v_pages, "rotary: v_pages", args);
  demand_eq(args.k_pages.dtype, args.v_pages.dtype, "rotary: dtypes of k and v pages differ");
  demand(args.q.dtype == DType::kF32 || args.q.dtype == args.k_pages.dtype,
         "rotary: q must be f32 or of the type of the pages (", args.q.dtype, " vs ",
         args.k_pages.dtype, ")");
  check_rows(args.slots, "rotary: slots", {rows}, args.q, DType::kI64);
  check_values<std::int64_t>(args.slots, "rotary: slots",
                             args.k_pages.size(0) * args.k_pages.size(1));
}

}  // namespace

void check_rotary_cache(const RotaryCacheArgs& args) {
  check_axes(args.q, "rotary: q", 3);
  check_axes(args.cos, "rotary: cos", 2);
  check_element(args.q, "rotary: q");
  check_rows(args.q, "rotary: q", args.q.shape, args.q, args.q.dtype);
  check_rows(args.cos, "rotary: cos", args.cos.shape, args.q);
  check_rows(args.sin, "rotary: sin", args.cos.shape, args.q);
  demand(2 * args.cos.size(1) <= args.q.size(2), "rotary: tables ", args.cos.shape,
         " turn more than head_dim ", args.q.size(2));
  check_rows(args.positions, "rotary: positions", {args.q.size(0)}, args.q, DType::kI32);
  check_values<std::int32_t>(args.positions, "rotary: positions", args.cos.size(0));
  if (args.k) check_rotary_keys(args);
}

void check_gated_mlp(const GatedMlpArgs& args) {
  check_axes(args.out, "gated_mlp: out", 2);
  check_element(args.out, "gated_mlp: out");
  check_rows(args.out, "gated_mlp: out", args.out.shape, args.out, args.out.dtype);
  check_rows(args.gate_up, "gated_mlp: gate_up", {args.out.size(0), 2 * args.out.size(1)}, args.out,
             args.out.dtype);
}

void check_vocabulary(const VocabularyArgs& args) {
  check_axes(args.logits, "vocabulary: logits", 2);
  check_rows(args.logits, "vocabulary: logits", args.logits.shape, args.logits);
  demand(args.logits.size(1) > 0, "vocabulary: vocab_size must be positive");
  demand_eq(static_cast<std::int64_t>(args.out.size()), args.logits.size(0),
            "vocabulary: summaries and rows differ");
}

namespace {

void check_indptr(const TensorView& indptr, std::int64_t end) {
  if (indptr.device.type != DeviceType::kCpu) return;
  const auto* values = indptr.as<const std::int32_t>();
  const std::int64_t last = indptr.size(0) - 1;
  demand(std::is_sorted(values, values + last + 1) && values[0] == 0 && values[last] == end,
         "block_scores: indptr must ascend from 0 to the number of keys, ", end);
}

}  // namespace

void check_block_scores(const BlockScoresArgs& args) {
  check_axes(args.q, "block_scores: q", 3);
  check_axes(args.k, "block_scores: k", 3);
  check_axes(args.scores, "block_scores: scores", 1);
  const std::int64_t rows = args.q.size(0);
  const std::int64_t num_q_heads = args.q.size(1);
  const std::int64_t num_keys = args.k.size(0);
  const std::int64_t num_kv_heads = args.k.size(1);
  const std::int64_t blocks = args.scores.size(0);
  const DType dtype = args.q.dtype;
  demand(dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16,
         "block_scores: q must be f32, f16 or bf16 (", dtype, ")");
  demand(rows > 0 && num_keys > 0 && blocks > 0,
         "block_scores: rows, keys and blocks must be positive (", rows, ", ", num_keys, ", ",
         blocks, ")");
  demand(num_kv_heads > 0 && num_q_heads > 0 && num_q_heads % num_kv_heads == 0,
         "block_scores: query heads must be a multiple of key/value heads (", num_q_heads, " vs ",
         num_kv_heads, ")");
  check_rows(args.q, "block_scores: q", args.q.shape, args.q, dtype);
  check_rows(args.k, "block_scores: k", {num_keys, num_kv_heads, args.q.size(2)}, args.q, dtype);
  check_rows(args.indptr, "block_scores: indptr", {blocks + 1}, args.q, DType::kI32);
  check_rows(args.alpha, "block_scores: alpha", {rows, num_q_heads, num_keys}, args.q);
  demand(args.alpha.is_contiguous(), "block_scores: alpha must be dense");
  check_rows(args.scores, "block_scores: scores", {blocks}, args.q);
  check_indptr(args.indptr, num_keys);
}

void check_attention_drift(const AttentionDriftArgs& args) {
  check_axes(args.queries, "attention_drift: queries", 4);
  check_axes(args.k_pages, "attention_drift: k_pages", 4);
  check_axes(args.window, "attention_drift: window", 1);
  check_axes(args.page_tables, "attention_drift: page_tables", 2);
  check_axes(args.statistics, "attention_drift: statistics", 1);
  const DType dtype = args.queries.dtype;
  const std::int64_t layers = args.num_layers();
  const std::int64_t canvas = args.canvas();
  const std::int64_t kv_heads = args.num_kv_heads();
  const std::int64_t head_dim = args.queries.size(3);
  demand(dtype == DType::kF32 || is_16_bit_float(dtype),
         "attention_drift: queries must be f32, f16 or bf16 (", dtype, ")");
  demand(layers > 0 && canvas > 0 && args.num_window() > 0,
         "attention_drift: layers, canvas and window must be positive (", layers, ", ", canvas,
         ", ", args.num_window(), ")");
  demand(kv_heads > 0 && args.num_q_heads() > 0 && args.num_q_heads() % kv_heads == 0,
         "attention_drift: query heads must be a multiple of key/value heads (", args.num_q_heads(),
         " vs ", kv_heads, ")");
  const auto check_dense = [&](const TensorView& view, std::string_view what, const Dims& shape,
                               DType type) {
    check_rows(view, what, shape, args.queries, type);
    demand(view.is_contiguous(), what, " must be dense");
  };
  check_dense(args.queries, "attention_drift: queries", args.queries.shape, dtype);
  check_rows(args.k_pages, "attention_drift: k_pages",
             {args.k_pages.size(0), args.k_pages.size(1), kv_heads, head_dim}, args.queries,
             args.k_pages.dtype);
  check_dense(args.page_tables, "attention_drift: page_tables", {layers, args.page_tables.size(1)},
              DType::kI32);
  demand(args.page_tables.size(1) * args.k_pages.size(1) >= canvas,
         "attention_drift: page_tables hold fewer keys than the canvas (",
         args.page_tables.size(1) * args.k_pages.size(1), " vs ", canvas, ")");
  check_dense(args.window, "attention_drift: window", {args.num_window()}, DType::kI32);
  check_values<std::int32_t>(args.window, "attention_drift: window", canvas);
  check_dense(args.attended, "attention_drift: attended", {layers, canvas}, DType::kF32);
  check_dense(args.similarity, "attention_drift: similarity", {layers}, DType::kF32);
  check_rows(args.statistics, "attention_drift: statistics", args.statistics.shape, args.queries);
  demand(args.statistics.size(0) >= drift_statistics(args),
         "attention_drift: statistics have too little room (", args.statistics.size(0), " vs ",
         drift_statistics(args), ")");
  if (args.num_tracked() == 0) return;
  check_dense(args.old_queries, "attention_drift: old_queries",
              {layers, args.num_tracked(), args.num_q_heads(), head_dim}, dtype);
  check_dense(args.tracked, "attention_drift: tracked", {args.num_tracked()}, DType::kI32);
  check_values<std::int32_t>(args.tracked, "attention_drift: tracked", canvas);
  if (args.num_changed() == 0) return;
  check_dense(args.old_keys, "attention_drift: old_keys",
              {layers, args.num_changed(), kv_heads, head_dim}, args.k_pages.dtype);
  check_dense(args.changed, "attention_drift: changed", {args.num_changed()}, DType::kI32);
  check_values<std::int32_t>(args.changed, "attention_drift: changed", canvas);
}

}  // namespace perpend
