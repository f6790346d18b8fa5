#include "perpend/kernels/fused_checks.h"

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

void check_rotary_cache(const RotaryCacheArgs& args) {
  check_axes(args.q, "rotary: q", 3);
  check_axes(args.k, "rotary: k", 3);
  check_axes(args.cos, "rotary: cos", 2);
  check_axes(args.k_pages, "rotary: k_pages", 4);
  const std::int64_t rows = args.q.size(0);
  const std::int64_t dim = args.q.size(2);
  const Dims kv_shape = {rows, args.k.size(1), dim};
  check_element(args.q, "rotary: q");
  check_rows(args.q, "rotary: q", args.q.shape, args.q, args.q.dtype);
  check_rows(args.k, "rotary: k", kv_shape, args.q, args.q.dtype);
  check_rows(args.v, "rotary: v", kv_shape, args.q, args.q.dtype);
  check_rows(args.cos, "rotary: cos", args.cos.shape, args.q);
  check_rows(args.sin, "rotary: sin", args.cos.shape, args.q);
  demand(2 * args.cos.size(1) <= dim, "rotary: tables ", args.cos.shape,
         " turn more than head_dim ", dim);
  check_pages(args.k_pages, "rotary: k_pages", args);
  check_pages(args.v_pages, "rotary: v_pages", args);
  demand_eq(args.k_pages.dtype, args.v_pages.dtype, "rotary: dtypes of k and v pages differ");
  demand(args.q.dtype == DType::kF32 || args.q.dtype == args.k_pages.dtype,
         "rotary: q must be f32 or of the type of the pages (", args.q.dtype, " vs ",
         args.k_pages.dtype, ")");
  check_rows(args.positions, "rotary: positions", {rows}, args.q, DType::kI32);
  check_rows(args.slots, "rotary: slots", {rows}, args.q, DType::kI64);
  check_values<std::int32_t>(args.positions, "rotary: positions", args.cos.size(0));
  check_values<std::int64_t>(args.slots, "rotary: slots",
                             args.k_pages.size(0) * args.k_pages.size(1));
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

}  // namespace perpend
