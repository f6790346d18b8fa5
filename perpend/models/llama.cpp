#include "perpend/models/llama.h"

#include <utility>

#include "perpend/ops/tensor_view_of.h"

namespace perpend {
namespace {

void check_tokens(const ForwardInput& input, const ModelConfig& config) {
  std::int64_t rows = 0;
  for (const KvRows& sequence : input.sequences) {
    rows += sequence.count;
    check(sequence.begin + sequence.count <= config.context_length,
          concat("model: position ", sequence.begin + sequence.count - 1,
                 " is beyond the context of ", config.context_length));
  }
  check_eq(static_cast<std::int64_t>(input.tokens.size()), rows, "model: tokens and rows differ");
  check_eq(static_cast<int>(input.layer_masks.size()), config.num_layers,
           "model: masks and layers differ");
  for (std::int32_t token : input.tokens) {
    check(token >= 0 && token < config.vocab_size,
          concat("model: token id ", token, " is outside the vocabulary of ", config.vocab_size));
  }
}

}  // namespace

Llama::Llama(ModelConfig config, const ModelWeights& weights, WeightForm form, Context& context)
    : config_(std::move(config)),
      rotary_(std::make_shared<RotaryTables>(config_.rotary, config_.context_length)),
      embedding_(weights.linear({WeightRole::kEmbedding}, form, context, 0)),
      final_norm_(weights.vector(WeightRole::kFinalNorm, context, 0), config_.rms_epsilon) {
  for (int index = 0; index < config_.num_layers; ++index) {
    layers_.push_back(read_layer(index, weights, form, context));
  }
  if (!config_.tied_embeddings) head_ = weights.linear({WeightRole::kHead}, form, context, 0);
}

Llama::Layer Llama::read_layer(int index, const ModelWeights& weights, WeightForm form,
                               const Context& context) const {
  const SelfAttention::Config heads{config_.num_q_heads, config_.num_kv_heads, config_.head_dim,
                                    config_.rotary.layout};
  using enum WeightRole;
  return {
      .attention_norm =
          RmsNorm(weights.vector(kAttentionNorm, context, index), config_.rms_epsilon),
      .attention =
          SelfAttention(heads, weights.linear({kQuery, kKey, kValue}, form, context, index),
                        weights.linear({kAttentionOutput}, form, context, index), rotary_),
      .mlp_norm = RmsNorm(weights.vector(kMlpNorm, context, index), config_.rms_epsilon),
      .mlp = GatedMlp(weights.linear({kGate, kUp}, form, context, index),
                      weights.linear({kDown}, form, context, index), Activation::kSilu),
  };
}

std::size_t Llama::num_bytes() const {
  std::size_t total = embedding_.num_bytes() + head_.num_bytes();
  for (const Layer& layer : layers_) total += layer.attention.num_bytes() + layer.mlp.num_bytes();
  return total;
}

std::vector<ModelParameter> Llama::parameters() const {
  using enum WeightRole;
  std::vector<ModelParameter> list;
  const auto add = [&](std::vector<WeightRole> roles, int layer, const Linear& linear) {
    list.push_back({roles, layer, /*is_bias=*/false, linear.weight()});
    if (linear.bias().defined()) list.push_back({roles, layer, /*is_bias=*/true, linear.bias()});
  };
  add({kEmbedding}, 0, embedding_);
  for (int index = 0; index < config_.num_layers; ++index) {
    const Layer& layer = layers_[static_cast<std::size_t>(index)];
    list.push_back({{kAttentionNorm}, index, false, layer.attention_norm.weight()});
    add({kQuery, kKey, kValue}, index, layer.attention.qkv());
    add({kAttentionOutput}, index, layer.attention.out());
    list.push_back({{kMlpNorm}, index, false, layer.mlp_norm.weight()});
    add({kGate, kUp}, index, layer.mlp.gate_up());
    add({kDown}, index, layer.mlp.down());
  }
  list.push_back({{kFinalNorm}, 0, false, final_norm_.weight()});
  if (!config_.tied_embeddings) add({kHead}, 0, head_);
  return list;
}

AttentionBatch Llama::make_batch(const ForwardInput& input, Context& context) const {
  const auto num_rows = static_cast<std::int64_t>(input.tokens.size());
  const auto num_sequences = static_cast<std::int64_t>(input.sequences.size());
  AttentionBatch batch;
  batch.shape.num_q_heads = config_.num_q_heads;
  batch.shape.num_kv_heads = config_.num_kv_heads;
  batch.positions = context.workspace->take({num_rows}, torch::kInt32);
  batch.q_indptr = context.workspace->take({num_sequences + 1}, torch::kInt32);
  auto* positions = static_cast<std::int32_t*>(batch.positions.data_ptr());
  auto* q_indptr = static_cast<std::int32_t*>(batch.q_indptr.data_ptr());
  q_indptr[0] = 0;
  for (const KvRows& rows : input.sequences) {
    const std::int64_t end = rows.begin + rows.count;
    rotary_->ensure(end);
    for (std::int64_t position = rows.begin; position < end; ++position) {
      *positions++ = static_cast<std::int32_t>(position);
    }
    q_indptr[1] = q_indptr[0] + static_cast<std::int32_t>(rows.count);
    ++q_indptr;
    batch.shape.sequences.push_back({rows.count, end, rows.begin});
  }
  return batch;
}

torch::Tensor Llama::forward(const ForwardInput& input, Context& context) const {
  check_tokens(input, config_);
  const Workspace::Scope pass(*context.workspace);
  const AttentionBatch batch = make_batch(input, context);
  KvBatch kv;
  kv.assign(input.sequences);
  const KvStore& store = input.sequences.front().sequence->store();
  const Tiling tiling = context.kernels->attention.tiling(
      {DType::kF32, store.config().dtype, config_.head_dim, /*paged=*/true}, Sweep::kRows);

  const torch::Tensor tokens =
      torch::from_blob(const_cast<std::int32_t*>(input.tokens.data()),
                       static_cast<std::int64_t>(input.tokens.size()), torch::kInt32);
  torch::Tensor x = embedding_.rows(tokens, context);
  std::shared_ptr<const Schedule> schedule;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const Workspace::Scope layer_scope(*context.workspace);
    const Layer& layer = layers_[i];
    if (i == 0 || input.layer_masks[i] != input.layer_masks[i - 1]) {
      schedule = context.schedules->get(input.layer_masks[i], batch.shape, tiling);
    }
    x = layer.attention.add_to(x, layer.attention_norm.forward(x, context), batch,
                               kv.layer(static_cast<int>(i)), *schedule, context);
    x = layer.mlp.add_to(x, layer.mlp_norm.forward(x, context), context);
  }
  const auto num_logit_rows = static_cast<std::int64_t>(input.logit_rows.size());
  const torch::Tensor wanted = context.workspace->take({num_logit_rows, config_.model_dim});
  for (std::int64_t row = 0; row < num_logit_rows; ++row) {
    const auto source = input.logit_rows[static_cast<std::size_t>(row)];
    const float* from = x.data_ptr<float>() + source * x.size(1);
    std::copy_n(from, x.size(1), wanted.data_ptr<float>() + row * x.size(1));
  }
  return head().forward_f32(final_norm_.forward(wanted, context), context);
}

}  // namespace perpend
