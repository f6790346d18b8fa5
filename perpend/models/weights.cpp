#include "perpend/models/weights.h"

#include <numeric>

#include <torch/torch.h>

#include "perpend/formats/block_format.h"

namespace perpend {
namespace {

struct RoleNames {
  std::string_view gguf;
  std::string_view hugging_face;
  bool in_layer;
};

RoleNames names_of(WeightRole role) {
  using enum WeightRole;
  switch (role) {
    case kEmbedding:
      return {"token_embd", "model.embed_tokens", false};
    case kAttentionNorm:
      return {"attn_norm", "input_layernorm", true};
    case kQuery:
      return {"attn_q", "self_attn.q_proj", true};
    case kKey:
      return {"attn_k", "self_attn.k_proj", true};
    case kValue:
      return {"attn_v", "self_attn.v_proj", true};
    case kAttentionOutput:
      return {"attn_output", "self_attn.o_proj", true};
    case kMlpNorm:
      return {"ffn_norm", "post_attention_layernorm", true};
    case kGate:
      return {"ffn_gate", "mlp.gate_proj", true};
    case kUp:
      return {"ffn_up", "mlp.up_proj", true};
    case kDown:
      return {"ffn_down", "mlp.down_proj", true};
    case kFinalNorm:
      return {"output_norm", "model.norm", false};
    case kHead:
      return {"output", "lm_head", false};
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

}  // namespace

std::string weight_name(Checkpoint::Kind kind, WeightRole role, int layer,
                        std::string_view suffix) {
  const RoleNames names = names_of(role);
  const bool gguf = kind == Checkpoint::Kind::kGguf;
  std::string name;
  if (names.in_layer) name = concat(gguf ? "blk." : "model.layers.", layer, ".");
  return concat(name, gguf ? names.gguf : names.hugging_face, suffix);
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

const StoredTensor& WeightReader::find(WeightRole role, int layer) const {
  const std::string name = weight_name(checkpoint_.kind(), role, layer);
  const StoredTensor* tensor = checkpoint_.tensor(name);
  if (tensor == nullptr) {
    throw IoError(concat(checkpoint_.path(), ": tensor '", name, "' is missing"));
  }
  const std::vector<std::int64_t> expected = weight_shape(config_, role);
  if (tensor->shape != expected) {
    throw IoError(concat(checkpoint_.path(), ": tensor '", name, "': expected the shape ",
                         text_of(expected), ", found ", text_of(tensor->shape)));
  }
  return *tensor;
}

void WeightReader::append_bias(WeightRole role, int layer, std::vector<float>& bias) const {
  const std::string name = weight_name(checkpoint_.kind(), role, layer, ".bias");
  const StoredTensor* tensor = checkpoint_.tensor(name);
  const std::int64_t outputs = weight_shape(config_, role).front();
  std::vector<float> values(static_cast<std::size_t>(outputs));
  if (tensor != nullptr) {
    if (tensor->shape != std::vector{outputs}) {
      throw IoError(concat(checkpoint_.path(), ": tensor '", name, "': expected the shape [",
                           outputs, "], found ", text_of(tensor->shape)));
    }
    values = to_f32(*tensor);
  }
  bias.insert(bias.end(), values.begin(), values.end());
}

Linear WeightReader::linear(std::initializer_list<WeightRole> roles, LinearMode mode,
                            const Context& context, int layer) const {
  std::vector<WeightSource> sources;
  std::vector<float> bias;
  bool has_bias = false;
  for (WeightRole role : roles) {
    const StoredTensor& tensor = find(role, layer);
    sources.push_back({tensor.format, tensor.shape[0], tensor.shape[1], tensor.bytes.data()});
    append_bias(role, layer, bias);
    has_bias |=
        checkpoint_.tensor(weight_name(checkpoint_.kind(), role, layer, ".bias")) != nullptr;
  }
  if (!has_bias) bias.clear();
  return {sources, std::move(bias), mode, context};
}

torch::Tensor WeightReader::vector(WeightRole role, int layer) const {
  const std::vector<float> values = to_f32(find(role, layer));
  return torch::tensor(values);
}

}  // namespace perpend
