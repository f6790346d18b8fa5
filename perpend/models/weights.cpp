#include "perpend/models/weights.h"

#include <algorithm>
#include <numeric>

#include "perpend/formats/block_format.h"
#include "perpend/nn/dense_weight.h"
#include "perpend/ops/tensor_view_of.h"

namespace perpend {
namespace {

struct RoleNames {
  std::string_view gguf;
  std::string_view hugging_face;
  std::string_view llada;  // in Hugging Face folders too
  bool in_layer;
};

RoleNames names_of(WeightRole role) {
  using enum WeightRole;
  switch (role) {
    case kEmbedding:
      return {"token_embd", "model.embed_tokens", "model.transformer.wte", false};
    case kAttentionNorm:
      return {"attn_norm", "input_layernorm", "attn_norm", true};
    case kQuery:
      return {"attn_q", "self_attn.q_proj", "q_proj", true};
    case kKey:
      return {"attn_k", "self_attn.k_proj", "k_proj", true};
    case kValue:
      return {"attn_v", "self_attn.v_proj", "v_proj", true};
    case kAttentionOutput:
      return {"attn_output", "self_attn.o_proj", "attn_out", true};
    case kMlpNorm:
      return {"ffn_norm", "post_attention_layernorm", "ff_norm", true};
    case kGate:
      return {"ffn_gate", "mlp.gate_proj", "ff_proj", true};
    case kUp:
      return {"ffn_up", "mlp.up_proj", "up_proj", true};
    case kDown:
      return {"ffn_down", "mlp.down_proj", "ff_out", true};
    case kFinalNorm:
      return {"output_norm", "model.norm", "model.transformer.ln_f", false};
    case kHead:
      return {"output", "lm_head", "model.transformer.ff_out", false};
  }
  bug("names_of: unknown role");
}

std::vector<float> to_f32(const StoredTensor& tensor) {
  const std::int64_t count = std::accumulate(tensor.shape.begin(), tensor.shape.end(),
                                             std::int64_t{1}, std::multiplies<>());
  std::vector<float> values(static_cast<std::size_t>(count));
  dequantize_row(tensor.format, tensor.bytes, values);
  return values;
}

std::string text_of(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    text += (i ? ", " : "") + std::to_string(shape[i]);
  }
  return text + "]";
}

void check_shape(const Checkpoint& checkpoint, const StoredTensor& tensor,
                 const std::vector<std::int64_t>& expected) {
  if (tensor.shape != expected) {
    throw IoError(concat(checkpoint.path(), ": tensor '", tensor.name, "': expected the shape ",
                         text_of(expected), ", found ", text_of(tensor.shape)));
  }
}

// W + scale up down, row for row in `format`.
std::vector<std::byte> merged_blocks(const WeightSource& source,
                                     const std::optional<LoraAdapter>& adapter, BlockFormat format,
                                     const Context& context) {
  torch::Tensor values = make_dense_weight({&source, 1}, torch::kFloat32, context).to(torch::kCPU);
  if (adapter) values.addmm_(adapter->up, adapter->down, 1, adapter->scale);
  const std::size_t bytes = row_bytes(format, source.in_features);
  const auto num_values = static_cast<std::size_t>(source.in_features);
  std::vector<std::byte> blocks(bytes * static_cast<std::size_t>(source.out_features));
  const float* first = values.data_ptr<float>();
  context.stream.threads->parallel_for(source.out_features, 16, [&](Range rows) {
    for (auto row = static_cast<std::size_t>(rows.begin); row < static_cast<std::size_t>(rows.end);
         ++row) {
      quantize_row(format, {first + row * num_values, num_values},
                   {blocks.data() + row * bytes, bytes});
    }
  });
  return blocks;
}

// Zeros where there is no bias.
void append_bias(const StoredTensor* tensor, std::int64_t outputs, std::vector<float>& bias) {
  if (tensor == nullptr) {
    bias.resize(bias.size() + static_cast<std::size_t>(outputs));
    return;
  }
  const std::vector<float> values = to_f32(*tensor);
  bias.insert(bias.end(), values.begin(), values.end());
}

}  // namespace

std::string weight_name(Checkpoint::Kind kind, std::string_view architecture, WeightRole role,
                        int layer, std::string_view suffix) {
  const RoleNames names = names_of(role);
  const bool gguf = kind == Checkpoint::Kind::kGguf;
  const bool llada = !gguf && architecture == "llada";
  const std::string_view layers = gguf    ? "blk."
                                  : llada ? "model.transformer.blocks."
                                          : "model.layers.";
  const std::string_view name = gguf ? names.gguf : llada ? names.llada : names.hugging_face;
  return names.in_layer ? concat(layers, layer, ".", name, suffix) : concat(name, suffix);
}

bool family_has_bias(std::string_view architecture, WeightRole role) {
  using enum WeightRole;
  const bool of_qkv = role == kQuery || role == kKey || role == kValue;
  if (architecture == "PanguEmbedded") return of_qkv || role == kAttentionOutput;
  return of_qkv &&
         (architecture == "qwen2" || architecture == "Fast_dLLM_Qwen" || architecture == "Dream");
}

std::vector<std::int64_t> weight_shape(const ModelConfig& config, WeightRole role) {
  const std::int64_t q_dim = std::int64_t{config.num_q_heads} * config.head_dim;
  const std::int64_t kv_dim = std::int64_t{config.num_kv_heads} * config.head_dim;
  using enum WeightRole;
  switch (role) {
    case kEmbedding:
    case kHead:
      return {config.vocab_size, config.model_dim};
    case kAttentionNorm:
    case kMlpNorm:
    case kFinalNorm:
      return {config.model_dim};
    case kQuery:
      return {q_dim, config.model_dim};
    case kKey:
    case kValue:
      return {kv_dim, config.model_dim};
    case kAttentionOutput:
      return {config.model_dim, q_dim};
    case kGate:
    case kUp:
      return {config.ffn_dim, config.model_dim};
    case kDown:
      return {config.model_dim, config.ffn_dim};
  }
  bug("weight_shape: unknown role");
}

const StoredTensor& find_weight(const Checkpoint& checkpoint, const ModelConfig& config,
                                WeightRole role, int layer) {
  const std::string name = weight_name(checkpoint.kind(), config.architecture, role, layer);
  const StoredTensor* tensor = checkpoint.tensor(name);
  if (tensor == nullptr) {
    throw IoError(concat(checkpoint.path(), ": tensor '", name, "' is missing"));
  }
  check_shape(checkpoint, *tensor, weight_shape(config, role));
  return *tensor;
}

const StoredTensor* find_bias(const Checkpoint& checkpoint, const ModelConfig& config,
                              WeightRole role, int layer) {
  const StoredTensor* tensor =
      checkpoint.tensor(weight_name(checkpoint.kind(), config.architecture, role, layer, ".bias"));
  if (tensor != nullptr) check_shape(checkpoint, *tensor, {weight_shape(config, role).front()});
  return tensor;
}

std::set<std::string> layer_matrices(const ModelConfig& config) {
  using enum WeightRole;
  std::set<std::string> names;
  for (int layer = 0; layer < config.num_layers; ++layer) {
    for (const WeightRole role : {kQuery, kKey, kValue, kAttentionOutput, kGate, kUp, kDown}) {
      names.insert(
          weight_name(Checkpoint::Kind::kHuggingFace, config.architecture, role, layer, ""));
    }
  }
  return names;
}

std::optional<LoraAdapter> WeightReader::adapter_of(WeightRole role, int layer) const {
  const std::vector<std::int64_t> shape = weight_shape(config_, role);
  if (adapter_ == nullptr || shape.size() != 2) return std::nullopt;
  return adapter_->find(
      weight_name(Checkpoint::Kind::kHuggingFace, config_.architecture, role, layer, ""), shape[0],
      shape[1], config_);
}

void WeightReader::merge_adapters(std::initializer_list<WeightRole> roles, int layer,
                                  WeightForm form, const Context& context,
                                  std::vector<WeightSource>& sources,
                                  std::vector<std::vector<std::byte>>& merged) const {
  std::vector<std::optional<LoraAdapter>> adapters;
  for (const WeightRole role : roles) adapters.push_back(adapter_of(role, layer));
  const auto is_there = [](const std::optional<LoraAdapter>& adapter) {
    return adapter.has_value();
  };
  if (std::none_of(adapters.begin(), adapters.end(), is_there)) return;
  const auto* mode = std::get_if<LinearMode>(&form);
  const bool in_blocks =
      mode != nullptr && *mode == LinearMode::kQuantized &&
      std::all_of(sources.begin(), sources.end(),
                  [](const WeightSource& source) { return info_of(source.format).block_size > 1; });
  // All of one Linear are packed alike.
  const BlockFormat format = in_blocks ? BlockFormat::kQ8_0 : BlockFormat::kF32;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    merged.push_back(merged_blocks(sources[i], adapters[i], format, context));
    sources[i].format = format;
    sources[i].blocks = merged.back().data();
  }
}

Linear WeightReader::linear(std::initializer_list<WeightRole> roles, WeightForm form,
                            const Context& context, int layer) const {
  std::vector<WeightSource> sources;
  std::vector<float> bias;
  bool has_bias = false;
  for (WeightRole role : roles) {
    const StoredTensor& tensor = find_weight(checkpoint_, config_, role, layer);
    sources.push_back({tensor.format, tensor.shape[0], tensor.shape[1], tensor.bytes.data()});
    const StoredTensor* role_bias = find_bias(checkpoint_, config_, role, layer);
    append_bias(role_bias, tensor.shape[0], bias);
    has_bias |= role_bias != nullptr;
  }
  if (!has_bias) bias.clear();
  std::vector<std::vector<std::byte>> merged;
  merge_adapters(roles, layer, form, context, sources, merged);
  Linear linear(sources, std::move(bias), form, context);
  if (adapter_ != nullptr && *roles.begin() == WeightRole::kEmbedding) {
    for (const TokenRow& row : adapter_->token_rows(config_)) linear.replace_row(row);
  }
  return linear;
}

torch::Tensor WeightReader::vector(WeightRole role, const Context& context, int layer) const {
  std::vector<float> values = to_f32(find_weight(checkpoint_, config_, role, layer));
  return torch::tensor(values).to(torch_device(context.device));
}

}  // namespace perpend
