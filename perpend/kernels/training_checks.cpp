#include <string_view>

#include "perpend/core/demand.h"
#include "perpend/kernels/fused_checks.h"

namespace perpend {
namespace {

void check_dense(const TensorView& view, std::string_view what, DType dtype, const Dims& shape,
                 const TensorView& of) {
  demand(view.dtype == dtype && view.shape == shape && view.is_contiguous(), what, ": expected ",
         dtype, " ", shape, ", dense, found ", view);
  demand(view.data != nullptr || num_elements(shape) == 0, what, " is absent");
  demand_eq(view.device, of.device, what, ": devices of the operands differ");
}

void check_optional(const TensorView& view, std::string_view what, DType dtype, const Dims& shape,
                    const TensorView& of) {
  if (view) check_dense(view, what, dtype, shape, of);
}

// The operand that gives the others their type.
void check_16_bit(const TensorView& view, std::string_view what, int num_axes) {
  demand(view.num_axes() == num_axes, what, ": expected ", num_axes, " axes, found ", view.shape);
  demand(view.dtype == DType::kF16 || view.dtype == DType::kBF16, what, " must be f16 or bf16 (",
         view.dtype, ")");
}

void check_dim(std::int64_t dim) {
  demand(AddRmsNormArgs::fits(dim), "add_rms_norm: dim must be a multiple of 4 of at most ",
         AddRmsNormArgs::kMostDim, " (", dim, ")");
}

}  // namespace

void check_add_rms_norm(const AddRmsNormArgs& args) {
  const TensorView& out = args.out;
  check_16_bit(out, "add_rms_norm: out", 2);
  const std::int64_t rows = out.size(0);
  const std::int64_t dim = out.size(1);
  check_dim(dim);
  check_dense(out, "add_rms_norm: out", out.dtype, out.shape, out);
  check_dense(args.x, "add_rms_norm: x", DType::kF32, out.shape, out);
  check_optional(args.delta, "add_rms_norm: delta", out.dtype, out.shape, out);
  check_dense(args.weight, "add_rms_norm: weight", DType::kF32, {dim}, out);
  check_dense(args.inverse_rms, "add_rms_norm: inverse_rms", DType::kF32, {rows}, out);
  demand(static_cast<bool>(args.sum) == static_cast<bool>(args.delta),
         "add_rms_norm: delta and sum must be given together");
  check_optional(args.sum, "add_rms_norm: sum", DType::kF32, out.shape, out);
}

void check_add_rms_norm_grad(const AddRmsNormGradArgs& args) {
  const TensorView& d_out = args.d_out;
  check_16_bit(d_out, "add_rms_norm: d_out", 2);
  const std::int64_t dim = d_out.size(1);
  check_dim(dim);
  check_dense(d_out, "add_rms_norm: d_out", d_out.dtype, d_out.shape, d_out);
  check_dense(args.sum, "add_rms_norm: sum", DType::kF32, d_out.shape, d_out);
  check_dense(args.weight, "add_rms_norm: weight", DType::kF32, {dim}, d_out);
  check_dense(args.inverse_rms, "add_rms_norm: inverse_rms", DType::kF32, {d_out.size(0)}, d_out);
  check_optional(args.d_sum, "add_rms_norm: d_sum", DType::kF32, d_out.shape, d_out);
  check_dense(args.d_x, "add_rms_norm: d_x", DType::kF32, d_out.shape, d_out);
  check_optional(args.d_delta, "add_rms_norm: d_delta", d_out.dtype, d_out.shape, d_out);
  if (!args.d_weight) return;
  demand(args.d_weight.num_axes() == 2 && args.d_weight.size(0) > 0,
         "add_rms_norm: d_weight must be [parts, dim], found ", args.d_weight.shape);
  check_dense(args.d_weight, "add_rms_norm: d_weight", DType::kF32, {args.d_weight.size(0), dim},
              d_out);
}

void check_rotary_heads(const RotaryHeadsArgs& args) {
  check_16_bit(args.qkv, "rotary_heads: qkv", 3);
  check_16_bit(args.q, "rotary_heads: q", 3);
  check_16_bit(args.k, "rotary_heads: k", 3);
  const std::int64_t rows = args.qkv.size(0);
  const std::int64_t num_q = args.q.size(1);
  const std::int64_t num_kv = args.k.size(1);
  const std::int64_t head_dim = args.qkv.size(2);
  const auto check_heads = [&](const TensorView& view, std::string_view what, std::int64_t heads) {
    check_dense(view, what, args.qkv.dtype, {rows, heads, head_dim}, args.qkv);
  };
  check_heads(args.qkv, "rotary_heads: qkv", num_q + 2 * num_kv);
  check_heads(args.q, "rotary_heads: q", num_q);
  check_heads(args.k, "rotary_heads: k", num_kv);
  check_heads(args.v, "rotary_heads: v", num_kv);
  demand(args.cos.num_axes() == 2 && 2 * args.cos.size(1) <= head_dim,
         "rotary_heads: cos must be [rows, rotary_dim / 2], found ", args.cos.shape);
  check_dense(args.cos, "rotary_heads: cos", DType::kF32, {rows, args.cos.size(1)}, args.qkv);
  check_dense(args.sin, "rotary_heads: sin", DType::kF32, args.cos.shape, args.qkv);
}

void check_gated_mlp_grad(const GatedMlpGradArgs& args) {
  const TensorView& d_out = args.d_out;
  check_16_bit(d_out, "gated_mlp: d_out", 2);
  const Dims both = {d_out.size(0), 2 * d_out.size(1)};
  check_dense(d_out, "gated_mlp: d_out", d_out.dtype, d_out.shape, d_out);
  check_dense(args.gate_up, "gated_mlp: gate_up", d_out.dtype, both, d_out);
  check_dense(args.d_gate_up, "gated_mlp: d_gate_up", d_out.dtype, both, d_out);
}

void check_cross_entropy(const CrossEntropyArgs& args) {
  const TensorView& logits = args.logits;
  check_16_bit(logits, "cross_entropy: logits", 2);
  demand(logits.size(1) > 0, "cross_entropy: vocab_size must be positive");
  check_dense(logits, "cross_entropy: logits", logits.dtype, logits.shape, logits);
  check_dense(args.targets, "cross_entropy: targets", DType::kI64, {logits.size(0)}, logits);
  check_dense(args.weights, "cross_entropy: weights", DType::kF32, {logits.size(0)}, logits);
  check_dense(args.losses, "cross_entropy: losses", DType::kF32, {logits.size(0)}, logits);
}

}  // namespace perpend
