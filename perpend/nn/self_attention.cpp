#include "perpend/nn/self_attention.h"

#include <utility>

#include "perpend/ops/tensor_view_of.h"

namespace perpend {
namespace {

// Heads [first, first + count) of `rows` [rows, heads * head_dim], as [rows, count, head_dim].
TensorView heads_of(const TensorView& rows, int first, int count, int head_dim) {
  TensorView view = rows;
  view.data =
      rows.as<std::byte>() + static_cast<std::size_t>(first * head_dim) * size_of(rows.dtype);
  view.shape = {rows.size(0), count, head_dim};
  view.strides = {rows.stride(0), head_dim, 1};
  return view;
}

}  // namespace

SelfAttention::SelfAttention(const Config& config, Linear qkv, Linear out,
                             std::shared_ptr<RotaryTables> rotary)
    : config_(config), qkv_(std::move(qkv)), out_(std::move(out)), rotary_(std::move(rotary)) {
  check_eq(
      qkv_.out_features(),
      static_cast<std::int64_t>(config.num_q_heads + 2 * config.num_kv_heads) * config.head_dim,
      "attention: outputs of the qkv projection and heads differ");
  check_eq(out_.in_features(), static_cast<std::int64_t>(config.num_q_heads) * config.head_dim,
           "attention: inputs of the output projection and q heads differ");
}

torch::Tensor SelfAttention::cache_keys(const torch::Tensor& x, const AttentionInput& input,
                                        Context& context) const {
  const int num_q = config_.num_q_heads;
  const int num_kv = config_.num_kv_heads;
  const int dim = config_.head_dim;
  const torch::Tensor rows = qkv_.forward(x, context);
  const TensorView qkv = view_of(rows);

  RotaryCacheArgs rotary;
  rotary.q = heads_of(qkv, 0, num_q, dim);
  rotary.k = heads_of(qkv, num_q, num_kv, dim);
  rotary.v = heads_of(qkv, num_q + num_kv, num_kv, dim);
  rotary.positions = input.positions;
  rotary.cos = view_of(rotary_->cos());
  rotary.sin = view_of(rotary_->sin());
  rotary.k_pages = input.kv.k_pages;
  rotary.v_pages = input.kv.v_pages;
  rotary.slots = input.kv.slots;
  rotary.layout = config_.rotary_layout;
  if (const KeptRows* kept = input.kept) {
    rotary.kept = heads_of(view_of(kept->queries), 0, num_q, dim);
    rotary.places = view_of(kept->places);
  }
  require(context.kernels->fused.rotary_cache, "rotary", *context.kernels)(rotary, context.stream);
  return rows.narrow(1, 0, std::int64_t{num_q} * dim);
}

torch::Tensor SelfAttention::add_to(const torch::Tensor& residual, const torch::Tensor& x,
                                    const AttentionInput& input, Context& context) const {
  const int num_q = config_.num_q_heads;
  const int dim = config_.head_dim;
  const torch::Tensor q = cache_keys(x, input, context);
  const torch::Tensor heads = context.workspace->take({x.size(0), num_q * dim}, q.scalar_type());
  AttentionArgs attention;
  attention.q = heads_of(view_of(q), 0, num_q, dim);
  attention.k = input.kv.k_pages;
  attention.v = input.kv.v_pages;
  attention.o = heads_of(view_of(heads), 0, num_q, dim);
  attention.q_indptr = input.q_indptr;
  attention.page_table = input.kv.page_table;
  if (input.plan != nullptr) {
    attention_forward(attention, *input.plan, context.stream);
  } else {
    attention_forward(attention, *input.schedule, context.stream);
  }
  return out_.add_to(residual, heads, context);
}

torch::Tensor SelfAttention::queries(const torch::Tensor& x, const torch::Tensor& positions,
                                     Context& context) const {
  return turned(0, config_.num_q_heads, x, positions, context);
}

torch::Tensor SelfAttention::keys(const torch::Tensor& x, const torch::Tensor& positions,
                                  Context& context) const {
  return turned(config_.num_q_heads, config_.num_kv_heads, x, positions, context);
}

torch::Tensor SelfAttention::turned(int first_head, int num_heads, const torch::Tensor& x,
                                    const torch::Tensor& positions, Context& context) const {
  const Range outputs{std::int64_t{first_head} * config_.head_dim,
                      std::int64_t{first_head + num_heads} * config_.head_dim};
  const torch::Tensor heads =
      qkv_.forward_part(x, outputs, context).unflatten(1, {num_heads, config_.head_dim});
  RotaryCacheArgs rotary;
  rotary.q = view_of(heads);
  rotary.positions = view_of(positions);
  rotary.cos = view_of(rotary_->cos());
  rotary.sin = view_of(rotary_->sin());
  rotary.layout = config_.rotary_layout;
  require(context.kernels->fused.rotary_cache, "rotary", *context.kernels)(rotary, context.stream);
  return heads;
}

}  // namespace perpend
