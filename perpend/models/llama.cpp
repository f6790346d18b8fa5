#include "perpend/models/llama.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "perpend/ops/tensor_view_of.h"

namespace perpend {
namespace {

// Rows of x that an MLP takes together: its activations are several times wider than x.
constexpr std::int64_t kMlpRows = 4096;

void check_positions(const ForwardInput& input, const ModelConfig& config) {
  if (input.positions.empty()) {
    for (const KvRows& sequence : input.sequences) {
      check(sequence.begin + sequence.count <= config.context_length,
            concat("model: position ", sequence.begin + sequence.count - 1,
                   " is beyond the context of ", config.context_length));
    }
    return;
  }
  check_eq(input.positions.size(), input.tokens.size(), "model: positions and tokens differ");
  for (std::int32_t position : input.positions) {
    check(
        position >= 0 && position < config.context_length,
        concat("model: position ", position, " is beyond the context of ", config.context_length));
  }
}

void check_input(const ForwardInput& input, int num_layers, const ModelConfig& config) {
  std::int64_t rows = 0;
  for (const KvRows& sequence : input.sequences) rows += sequence.count;
  check_eq(static_cast<std::int64_t>(input.tokens.size()), rows, "model: tokens and rows differ");
  check_eq(static_cast<int>(input.layer_masks.size()), num_layers,
           "model: masks and layers differ");
  check_positions(input, config);
  for (std::int32_t token : input.tokens) {
    check(token >= 0 && token < config.vocab_size,
          concat("model: token id ", token, " is outside the vocabulary of ", config.vocab_size));
  }
}

// Rows of x [rows, columns] one after another, in the workspace.
torch::Tensor gathered(const torch::Tensor& x, std::span<const std::int32_t> rows,
                       Context& context) {
  const std::int64_t columns = x.size(1);
  const torch::Tensor result =
      context.workspace->take({static_cast<std::int64_t>(rows.size()), columns});
  auto* to = result.data_ptr<float>();
  for (const std::int32_t row : rows) {
    check(row >= 0 && row < x.size(0), concat("model: there is no row ", row, " of ", x.size(0)));
    to = std::copy_n(x.data_ptr<float>() + row * columns, columns, to);
  }
  return result;
}

// positions [rows] i32 of some rows of a batch.
torch::Tensor gathered_positions(const AttentionBatch& batch, std::span<const std::int32_t> rows,
                                 Context& context) {
  const torch::Tensor result =
      context.workspace->take({static_cast<std::int64_t>(rows.size())}, torch::kInt32);
  const auto* positions = batch.positions.data_ptr<std::int32_t>();
  std::transform(rows.begin(), rows.end(), result.data_ptr<std::int32_t>(),
                 [&](std::int32_t row) { return positions[row]; });
  return result;
}

}  // namespace

Llama::Llama(ModelConfig config, const WeightReader& weights, LinearMode mode, Context& context)
    : config_(std::move(config)),
      rotary_(std::make_shared<RotaryTables>(config_.rotary, config_.context_length)),
      embedding_(weights.linear({WeightRole::kEmbedding}, mode, context)),
      final_norm_(weights.vector(WeightRole::kFinalNorm), config_.rms_epsilon) {
  for (int index = 0; index < config_.num_layers; ++index) {
    layers_.push_back(read_layer(index, weights, mode, context));
  }
  if (!config_.tied_embeddings) head_ = weights.linear({WeightRole::kHead}, mode, context);
}

Llama::Layer Llama::read_layer(int index, const WeightReader& weights, LinearMode mode,
                               const Context& context) const {
  const SelfAttention::Config heads{config_.num_q_heads, config_.num_kv_heads, config_.head_dim,
                                    config_.rotary.layout};
  using enum WeightRole;
  return {
      .attention_norm = RmsNorm(weights.vector(kAttentionNorm, index), config_.rms_epsilon),
      .attention =
          SelfAttention(heads, weights.linear({kQuery, kKey, kValue}, mode, context, index),
                        weights.linear({kAttentionOutput}, mode, context, index), rotary_),
      .mlp_norm = RmsNorm(weights.vector(kMlpNorm, index), config_.rms_epsilon),
      .mlp = GatedMlp(weights.linear({kGate, kUp}, mode, context, index),
                      weights.linear({kDown}, mode, context, index), Activation::kSilu),
  };
}

std::size_t Llama::num_bytes() const {
  std::size_t total = embedding_.num_bytes() + head_.num_bytes();
  for (const Layer& layer : layers_) total += layer.attention.num_bytes() + layer.mlp.num_bytes();
  return total;
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
    std::iota(positions + q_indptr[0], positions + q_indptr[0] + rows.count,
              static_cast<std::int32_t>(rows.begin));
    q_indptr[1] = q_indptr[0] + static_cast<std::int32_t>(rows.count);
    ++q_indptr;
    batch.shape.sequences.push_back({rows.count, end, rows.begin});
  }
  std::copy(input.positions.begin(), input.positions.end(), positions);
  if (num_rows > 0) rotary_->ensure(*std::max_element(positions, positions + num_rows) + 1);
  return batch;
}

void Llama::add_mlp(const Layer& layer, const torch::Tensor& x, Context& context) const {
  for (std::int64_t begin = 0; begin < x.size(0); begin += kMlpRows) {
    const Workspace::Scope scope(*context.workspace);
    const std::int64_t count = std::min(kMlpRows, x.size(0) - begin);
    const torch::Tensor rows = count == x.size(0) ? x : x.narrow(0, begin, count);
    layer.mlp.add_to(rows, layer.mlp_norm.forward(rows, context), context);
  }
}

torch::Tensor Llama::run_layers(const ForwardInput& input, const AttentionBatch& batch,
                                int num_layers, const std::function<void(int)>& progress,
                                Context& context) const {
  KvBatch kv;
  kv.assign(input.sequences);
  const KvStoreConfig& store = input.sequences.front().sequence->store().config();
  check(store.num_layers == 1 || store.num_layers >= num_layers,
        concat("model: the cache has ", store.num_layers, " layers, ", num_layers, " run"));
  const Tiling tiling = context.kernels->attention.tiling(
      {DType::kF32, store.dtype, config_.head_dim, /*paged=*/true}, Sweep::kRows);
  const torch::Tensor x = embedding_.rows(input.tokens, context);
  std::shared_ptr<const Schedule> schedule;
  for (int i = 0; i < num_layers; ++i) {
    const Workspace::Scope layer_scope(*context.workspace);
    const Layer& layer = layers_[static_cast<std::size_t>(i)];
    const Mask& mask = input.layer_masks[static_cast<std::size_t>(i)];
    if (i == 0 || mask != input.layer_masks[static_cast<std::size_t>(i - 1)]) {
      schedule = context.schedules->get(mask, batch.shape, tiling);
    }
    layer.attention.add_to(x, layer.attention_norm.forward(x, context), batch,
                           kv.layer(store.num_layers == 1 ? 0 : i), *schedule, context);
    add_mlp(layer, x, context);
    if (progress) progress(i + 1);
  }
  return x;
}

torch::Tensor Llama::forward(const ForwardInput& input, Context& context) const {
  check_input(input, config_.num_layers, config_);
  const Workspace::Scope pass(*context.workspace);
  const AttentionBatch batch = make_batch(input, context);
  const torch::Tensor x = run_layers(input, batch, config_.num_layers, {}, context);
  const torch::Tensor wanted = gathered(x, input.logit_rows, context);
  return head().forward(final_norm_.forward(wanted, context), context);
}

TurnedHeads Llama::heads(const ForwardInput& input, const HeadRowsOf& wanted,
                         Context& context) const {
  check(wanted.layer >= 0 && wanted.layer < config_.num_layers,
        concat("model: there is no layer ", wanted.layer, " of ", config_.num_layers));
  check_input(input, wanted.layer, config_);
  const Workspace::Scope pass(*context.workspace);
  const AttentionBatch batch = make_batch(input, context);
  const torch::Tensor x = run_layers(input, batch, wanted.layer, wanted.progress, context);
  const Layer& layer = layers_[static_cast<std::size_t>(wanted.layer)];
  const auto normed = [&](std::span<const std::int32_t> rows) {
    return layer.attention_norm.forward(gathered(x, rows, context), context);
  };
  return {layer.attention.queries(normed(wanted.q_rows),
                                  gathered_positions(batch, wanted.q_rows, context), context),
          layer.attention.keys(normed(wanted.k_rows),
                               gathered_positions(batch, wanted.k_rows, context), context)};
}

}  // namespace perpend
