#include "perpend/models/llama.h"

#include <algorithm>
#include <utility>

#include "perpend/models/forward_pass.h"
#include "perpend/nn/device_scope.h"
#include "perpend/ops/tensor_view_of.h"

namespace perpend {
namespace {

// Rows that an MLP takes together: its activations are several times wider than x.
constexpr std::int64_t kMlpRows = 8192;

// Rows that stand anywhere are told apart by no mask.
void check_places(const ForwardInput& input) {
  if (input.places.empty()) return;
  check_eq(input.places.size(), input.tokens.size(), "model: places and tokens differ");
  check(input.sequences.size() == 1, "model: places are for a single sequence");
  check(
      std::ranges::all_of(input.layer_masks, [](const Mask& mask) { return mask == Mask::all(); }),
      "model: places need the mask all in every layer");
  const std::int64_t length = input.sequences.front().sequence->length();
  for (const std::int32_t place : input.places) {
    check(place >= 0 && place < length,
          concat("model: place ", place, " is behind the sequence's ", length, " tokens"));
  }
}

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

void check_tokens(const ForwardInput& input, int num_masks, const ModelConfig& config) {
  std::int64_t rows = 0;
  for (const KvRows& sequence : input.sequences) rows += sequence.count;
  check_eq(static_cast<std::int64_t>(input.tokens.size()), rows, "model: tokens and rows differ");
  check_eq(static_cast<int>(input.layer_masks.size()), num_masks, "model: masks and layers differ");
  check_places(input);
  check(input.sequence_masks.empty() || input.sequence_masks.size() == input.sequences.size(),
        concat("model: masks and sequences differ (", input.sequence_masks.size(), " vs ",
               input.sequences.size(), ")"));
  for (const auto& masks : input.sequence_masks) {
    check_eq(static_cast<int>(masks.size()), num_masks, "model: masks and layers differ");
  }
  check_positions(input, config);
  const int num_kept = input.sequences.front().sequence->store().config().num_layers;
  check(num_kept == 1 || num_kept >= num_masks,
        concat("model: the cache has ", num_kept, " layers, ", num_masks, " run"));
  for (std::int32_t token : input.tokens) {
    check(token >= 0 && token < config.vocab_size,
          concat("model: token id ", token, " is outside the vocabulary of ", config.vocab_size));
  }
}

// One more than the largest position of the rotary embedding.
std::int64_t num_positions(const ForwardInput& input) {
  std::int64_t count = 0;
  for (const std::int32_t position : input.positions) {
    count = std::max<std::int64_t>(count, position + 1);
  }
  if (!input.positions.empty()) return count;
  for (const KvRows& rows : input.sequences) count = std::max(count, rows.begin + rows.count);
  return count;
}

void check_layers(const ForwardInput& input, const ModelConfig& config) {
  const Range layers = input.layers(config.num_layers);
  const std::size_t num_values = input.tokens.size() * static_cast<std::size_t>(config.model_dim);
  check(layers.begin >= 0 && !layers.empty() && layers.end <= config.num_layers,
        concat("model: layers ", layers, " of ", config.num_layers));
  check_eq(input.input_rows.size(), layers.begin == 0 ? 0 : num_values,
           "model: values of the input rows and of the tokens differ");
  check(input.logit_rows.empty() || (layers.end == config.num_layers && config.has_head),
        "model: logits need the last layer and the head");
  for (const RowsAtLayer& wanted : input.wanted_rows) {
    check_eq(wanted.rows.size(), num_values, "model: room for rows and tokens differ");
  }
}

torch::Tensor rows_from_host(std::span<const float> rows, const ForwardPass& pass,
                             const ModelConfig& config, const Context& context) {
  torch::Tensor x = context.workspace->take({pass.tokens().size(0), config.model_dim});
  // LibTorch has no tensors of constant memory.
  x.copy_(torch::from_blob(const_cast<float*>(rows.data()), x.sizes()));
  return x;
}

void copy_wanted_rows(std::span<const RowsAtLayer> wanted_rows, int layer, const torch::Tensor& x) {
  for (const RowsAtLayer& wanted : wanted_rows) {
    if (wanted.layer == layer) torch::from_blob(wanted.rows.data(), x.sizes()).copy_(x);
  }
}

// The rows as a tensor beside x [all rows, model_dim].
torch::Tensor rows_beside(const torch::Tensor& x, std::span<const std::int32_t> rows) {
  for (const std::int32_t row : rows) {
    check(row >= 0 && row < x.size(0), concat("model: there is no row ", row, " of ", x.size(0)));
  }
  const c10::ArrayRef<std::int32_t> list(rows.data(), rows.size());
  return torch::tensor(list, torch::kInt32).to(x.device());
}

}  // namespace

Llama::Llama(ModelConfig config, const ModelWeights& weights, WeightForm form, Context& context)
    : config_(std::move(config)) {
  // What is made on a GPU must be there for whatever stream will read it.
  const DeviceScope device(context);
  rotary_ = std::make_shared<RotaryTables>(config_.rotary, config_.context_length,
                                           torch_device(context.device));
  embedding_ = weights.linear({WeightRole::kEmbedding}, form, context, 0);
  for (int index = 0; index < config_.num_layers; ++index) {
    layers_.push_back(read_layer(index, weights, form, context));
  }
  final_norm_ = RmsNorm(weights.vector(WeightRole::kFinalNorm, context, 0), config_.rms_epsilon);
  if (config_.has_head && !config_.tied_embeddings) {
    head_ = weights.linear({WeightRole::kHead}, form, context, 0);
  }
  if (context.torch_stream) context.torch_stream->synchronize();
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
  if (config_.has_head && !config_.tied_embeddings) add({kHead}, 0, head_);
  return list;
}

void Llama::prepare(const ForwardInput& input) const {
  check_tokens(input, config_.num_layers, config_);
  check_layers(input, config_);
  rotary_->ensure(num_positions(input));
}

torch::Tensor Llama::forward(const ForwardInput& input, Context& context) const {
  const DeviceScope device(context);
  prepare(input);
  ForwardPass pass(size_of(input), context);
  pass.assign(input, context);
  pass.set_schedules(input, config_, context);
  return run_layers(pass, input, context);
}

torch::Tensor Llama::run(const ForwardPass& pass, const LogitVisitor* visit,
                         Context& context) const {
  ForwardInput input;
  input.visit_logits = visit;
  return run_layers(pass, input, context);
}

torch::Tensor Llama::run_layers(const ForwardPass& pass, const ForwardInput& input,
                                Context& context) const {
  const DeviceScope device(context);
  const Workspace::Scope scope(*context.workspace);
  const Range layers = pass.layers();
  const bool has_logits = pass.logit_rows().size(0) > 0;
  torch::Tensor x = layers.begin == 0 ? embedding_.rows(pass.tokens(), context)
                                      : rows_from_host(input.input_rows, pass, config_, context);
  for (auto i = static_cast<int>(layers.begin); i < layers.end; ++i) {
    copy_wanted_rows(input.wanted_rows, i, x);
    if (i + 1 == layers.end && !has_logits) {
      make_keys(i, x, pass, context);
      return context.workspace->take({0, config_.vocab_size});
    }
    x = through_layer(i, x, pass.attention(i), context);
  }
  return logits(x, pass, input.visit_logits, context);
}

void Llama::make_keys(int index, const torch::Tensor& x, const ForwardPass& pass,
                      Context& context) const {
  const Workspace::Scope scope(*context.workspace);
  const Layer& layer = layers_[static_cast<std::size_t>(index)];
  layer.attention.cache_keys(layer.attention_norm.forward(x, context), pass.attention(index),
                             context);
}

torch::Tensor Llama::through_layer(int index, const torch::Tensor& x, const AttentionInput& input,
                                   Context& context) const {
  const Workspace::Scope scope(*context.workspace);
  const Layer& layer = layers_[static_cast<std::size_t>(index)];
  const torch::Tensor seen = layer.attention.add_to(
      x, layer.attention_norm.forward(x, context, input.kept), input, context);
  if (seen.size(0) <= kMlpRows || seen.requires_grad()) {
    return layer.mlp.add_to(seen, layer.mlp_norm.forward(seen, context), context);
  }
  for (std::int64_t begin = 0; begin < seen.size(0); begin += kMlpRows) {
    const Workspace::Scope part(*context.workspace);
    const torch::Tensor rows = seen.narrow(0, begin, std::min(kMlpRows, seen.size(0) - begin));
    layer.mlp.add_to(rows, layer.mlp_norm.forward(rows, context), context);
  }
  return seen;
}

torch::Tensor Llama::logits(const torch::Tensor& x, const ForwardPass& pass,
                            const LogitVisitor* visit, Context& context) const {
  torch::Tensor wanted = context.workspace->take({pass.logit_rows().size(0), config_.model_dim});
  at::index_select_out(wanted, x, 0, pass.logit_rows());
  const torch::Tensor normed = final_norm_.forward(wanted, context);
  if (visit == nullptr) return head().forward_f32(normed, context);
  const std::int64_t most = most_logit_rows(context.device);
  for (std::int64_t first = 0; first < normed.size(0); first += most) {
    const Workspace::Scope part(*context.workspace);
    const std::int64_t count = std::min(most, normed.size(0) - first);
    (*visit)(first, head().forward_f32(normed.narrow(0, first, count), context));
  }
  return context.workspace->take({0, config_.vocab_size});
}

torch::Tensor Llama::embed(const ForwardPass& pass, Context& context) const {
  return embedding_.rows(pass.tokens(), context);
}

void Llama::run_layer(int layer, const torch::Tensor& x, const ForwardPass& pass,
                      const KeptRows& kept, Context& context) const {
  AttentionInput input = pass.attention(layer);
  input.kept = &kept;
  // Nothing is recorded, so that what it returns is x.
  through_layer(layer, x, input, context);
}

void Llama::visit_logits(const torch::Tensor& x, const ForwardPass& pass, LogitVisitor visit,
                         Context& context) const {
  logits(x, pass, &visit, context);
}

TurnedHeads Llama::heads(const ForwardInput& input, const HeadRowsOf& wanted,
                         Context& context) const {
  check(wanted.layer >= 0 && wanted.layer < config_.num_layers,
        concat("model: there is no layer ", wanted.layer, " of ", config_.num_layers));
  check(input.runs_everything(), "model: heads of a layer need a pass from the first layer on");
  check_tokens(input, wanted.layer, config_);
  const DeviceScope device(context);
  rotary_->ensure(num_positions(input));
  ForwardPass pass(size_of(input), context);
  pass.assign(input, context);
  pass.set_schedules(input, config_, context);
  const Workspace::Scope scope(*context.workspace);
  torch::Tensor x = embedding_.rows(pass.tokens(), context);
  for (int i = 0; i < wanted.layer; ++i) {
    x = through_layer(i, x, pass.attention(i), context);
    if (wanted.progress) wanted.progress(i + 1);
  }
  const Layer& layer = layers_[static_cast<std::size_t>(wanted.layer)];
  const torch::Tensor q_rows = rows_beside(x, wanted.q_rows);
  const torch::Tensor k_rows = rows_beside(x, wanted.k_rows);
  return {layer.attention.queries(normed_rows(layer, x, q_rows, context),
                                  pass.positions().index_select(0, q_rows), context),
          layer.attention.keys(normed_rows(layer, x, k_rows, context),
                               pass.positions().index_select(0, k_rows), context)};
}

torch::Tensor Llama::normed_rows(const Layer& layer, const torch::Tensor& x,
                                 const torch::Tensor& rows, Context& context) const {
  torch::Tensor wanted = context.workspace->take({rows.size(0), config_.model_dim});
  at::index_select_out(wanted, x, 0, rows);
  return layer.attention_norm.forward(wanted, context);
}

}  // namespace perpend
