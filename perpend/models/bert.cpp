#include "perpend/models/bert.h"

#include <algorithm>
#include <numeric>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/formats/block_format.h"
#include "perpend/io/json_text.h"
#include "perpend/models/text_side.h"
#include "perpend/ops/tensor_view_of.h"

namespace perpend {
namespace {

using nlohmann::json;

// Tensors of a checkpoint by their names, with their shapes checked.
class Tensors {
 public:
  explicit Tensors(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  const StoredTensor& find(const std::string& name, const std::vector<std::int64_t>& shape) const {
    const StoredTensor* tensor = checkpoint_.tensor(name);
    if (tensor == nullptr) {
      throw IoError(concat(checkpoint_.path(), ": tensor '", name, "' is missing"));
    }
    if (tensor->shape != shape) {
      throw IoError(concat(checkpoint_.path(), ": tensor '", name, "': expected the shape ",
                           Dims(shape), ", found ", Dims(tensor->shape)));
    }
    return *tensor;
  }

  torch::Tensor f32(const std::string& name, const std::vector<std::int64_t>& shape) const {
    const StoredTensor& tensor = find(name, shape);
    torch::Tensor values = torch::empty(shape);
    const std::span to(values.data_ptr<float>(), static_cast<std::size_t>(values.numel()));
    dequantize_row(tensor.format, tensor.bytes, to);
    return values;
  }

  // One Linear of the outputs of `names`, each [outputs, inputs].
  Linear linear(const std::vector<std::string>& names, std::int64_t outputs, std::int64_t inputs,
                LinearMode mode, const Context& context) const {
    std::vector<WeightSource> sources;
    std::vector<float> bias;
    for (const std::string& name : names) {
      const StoredTensor& weight = find(name + ".weight", {outputs, inputs});
      sources.push_back({weight.format, outputs, inputs, weight.bytes.data()});
      const torch::Tensor more = f32(name + ".bias", {outputs});
      bias.insert(bias.end(), more.data_ptr<float>(), more.data_ptr<float>() + outputs);
    }
    return {sources, std::move(bias), mode, context};
  }

 private:
  const Checkpoint& checkpoint_;
};

std::int64_t size_of(const json& object, const char* key, const std::string& path) {
  constexpr std::int64_t kMost = 1 << 24;
  const bool whole = object.contains(key) && object[key].is_number_integer();
  const std::int64_t value = whole ? object[key].get<std::int64_t>() : 0;
  if (value < 1 || value > kMost) {
    throw IoError(concat(path, ": key '", key, "': expected an integer from 1 to ", kMost));
  }
  return value;
}

void check_text(const json& object, const char* key, std::string_view expected,
                const std::string& path) {
  const std::string found = object.value(key, std::string(expected));
  if (found != expected) {
    throw Unsupported(concat(path, ": ", key, " '", found, "' is not built; ", expected, " is"));
  }
}

}  // namespace

BertConfig read_bert_config(const Checkpoint& checkpoint) {
  const std::string path = checkpoint.path() + "/config.json";
  if (checkpoint.kind() != Checkpoint::Kind::kHuggingFace) {
    throw Unsupported(concat(checkpoint.path(), ": BERT is read from Hugging Face folders alone"));
  }
  const json object = parse_json_object(checkpoint.config_json(), path);
  check_text(object, "model_type", "bert", path);
  check_text(object, "hidden_act", "gelu", path);
  check_text(object, "position_embedding_type", "absolute", path);
  BertConfig config;
  config.vocab_size = size_of(object, "vocab_size", path);
  config.model_dim = size_of(object, "hidden_size", path);
  config.ffn_dim = size_of(object, "intermediate_size", path);
  config.num_layers = static_cast<int>(size_of(object, "num_hidden_layers", path));
  config.num_heads = static_cast<int>(size_of(object, "num_attention_heads", path));
  config.context_length = size_of(object, "max_position_embeddings", path);
  config.norm_epsilon = object.value("layer_norm_eps", 1e-12);
  if (config.model_dim % config.num_heads != 0) {
    throw IoError(concat(path, ": hidden_size must be a multiple of num_attention_heads (",
                         config.model_dim, " vs ", config.num_heads, ")"));
  }
  return config;
}

Bert::Bert(const Checkpoint& checkpoint, LinearMode mode, Context& context)
    : config_(read_bert_config(checkpoint)) {
  if (context.device.type != DeviceType::kCpu) {
    throw Unsupported("bert: runs on the CPU alone so far");
  }
  const Tensors tensors(checkpoint);
  const std::int64_t dim = config_.model_dim;
  const auto norm = [&](const std::string& name) {
    return Norm{tensors.f32(name + ".weight", {dim}), tensors.f32(name + ".bias", {dim})};
  };
  words_ = tensors.f32("embeddings.word_embeddings.weight", {config_.vocab_size, dim});
  const StoredTensor* types = checkpoint.tensor("embeddings.token_type_embeddings.weight");
  const std::int64_t num_types = types != nullptr && !types->shape.empty() ? types->shape[0] : 0;
  positions_ = tensors.f32("embeddings.position_embeddings.weight", {config_.context_length, dim}) +
               tensors.f32("embeddings.token_type_embeddings.weight", {num_types, dim})[0];
  embedding_norm_ = norm("embeddings.LayerNorm");
  for (int i = 0; i < config_.num_layers; ++i) {
    const std::string prefix = concat("encoder.layer.", i, ".");
    const std::string self = prefix + "attention.self.";
    layers_.push_back(
        {.qkv = tensors.linear({self + "query", self + "key", self + "value"}, dim, dim, mode,
                               context),
         .out = tensors.linear({prefix + "attention.output.dense"}, dim, dim, mode, context),
         .attention_norm = norm(prefix + "attention.output.LayerNorm"),
         .up = tensors.linear({prefix + "intermediate.dense"}, config_.ffn_dim, dim, mode, context),
         .down = tensors.linear({prefix + "output.dense"}, dim, config_.ffn_dim, mode, context),
         .mlp_norm = norm(prefix + "output.LayerNorm")});
  }
}

torch::Tensor Bert::normed(const Norm& norm, const torch::Tensor& x) const {
  return torch::layer_norm(x, {config_.model_dim}, norm.weight, norm.bias, config_.norm_epsilon);
}

torch::Tensor Bert::embedded(std::span<const std::int32_t> tokens,
                             std::span<const std::int32_t> indptr) const {
  std::vector<std::int64_t> ids(tokens.begin(), tokens.end());
  std::vector<std::int64_t> places(ids.size());
  for (std::size_t i = 0; i + 1 < indptr.size(); ++i) {
    std::iota(places.begin() + indptr[i], places.begin() + indptr[i + 1], std::int64_t{0});
  }
  return normed(embedding_norm_, words_.index_select(0, torch::tensor(ids)) +
                                     positions_.index_select(0, torch::tensor(places)));
}

torch::Tensor Bert::attended(const torch::Tensor& qkv, const torch::Tensor& indptr,
                             Context& context) const {
  const std::int64_t head_dim = config_.model_dim / config_.num_heads;
  const torch::Tensor heads = qkv.unflatten(1, {3, config_.num_heads, head_dim});
  const torch::Tensor o = context.workspace->take({qkv.size(0), config_.model_dim});
  AttentionShape shape{
      .sequences = {}, .num_q_heads = config_.num_heads, .num_kv_heads = config_.num_heads};
  const auto* ends = indptr.data_ptr<std::int32_t>();
  for (std::int64_t i = 0; i + 1 < indptr.size(0); ++i) {
    shape.sequences.push_back({ends[i + 1] - ends[i], ends[i + 1] - ends[i], 0});
  }
  const Tiling tiling = context.kernels->attention.tiling(
      {DType::kF32, DType::kF32, head_dim, /*paged=*/false}, Sweep::kRows);
  AttentionArgs args;
  args.q = view_of(heads.select(1, 0));
  args.k = view_of(heads.select(1, 1));
  args.v = view_of(heads.select(1, 2));
  args.o = view_of(o.unflatten(1, {config_.num_heads, head_dim}));
  args.q_indptr = view_of(indptr);
  args.kv_indptr = view_of(indptr);
  attention_forward(args, *context.schedules->get(Mask::all(), shape, tiling), context.stream);
  return o;
}

torch::Tensor Bert::forward(std::span<const std::int32_t> tokens,
                            std::span<const std::int32_t> indptr, Context& context) const {
  check(indptr.size() >= 2 && indptr.front() == 0 &&
            indptr.back() == static_cast<std::int32_t>(tokens.size()),
        "bert: indptr must lead from 0 to the number of tokens");
  for (std::size_t i = 0; i + 1 < indptr.size(); ++i) {
    const std::int64_t length = indptr[i + 1] - indptr[i];
    check(length >= 1 && length <= config_.context_length,
          concat("bert: text ", i, " must have 1 to ", config_.context_length, " tokens (", length,
                 ")"));
  }
  for (const std::int32_t token : tokens) {
    check(token >= 0 && token < config_.vocab_size,
          concat("bert: token id ", token, " is outside the vocabulary of ", config_.vocab_size));
  }
  const torch::Tensor ends =
      torch::tensor(c10::ArrayRef<std::int32_t>(indptr.data(), indptr.size()), torch::kInt32);
  torch::Tensor x = embedded(tokens, indptr);
  for (const Layer& layer : layers_) {
    const Workspace::Scope scope(*context.workspace);
    layer.out.add_to(x, attended(layer.qkv.forward(x, context), ends, context), context);
    x = normed(layer.attention_norm, x);
    layer.down.add_to(x, torch::gelu(layer.up.forward(x, context)), context);
    x = normed(layer.mlp_norm, x);
  }
  return x;
}

TextEmbedder::TextEmbedder(const std::string& path, Context& context, std::int64_t max_tokens)
    : checkpoint_(Checkpoint::open(path)),
      tokenizer_(read_tokenizer(checkpoint_)),
      bert_(checkpoint_, LinearMode::kF32, context),
      max_tokens_(std::min(max_tokens, bert_.config().context_length)) {
  check(max_tokens_ >= 2, concat("bert: max_tokens must be at least 2 (", max_tokens, ")"));
}

std::vector<std::int32_t> TextEmbedder::tokens_of(const std::string& text) const {
  std::vector<std::int32_t> tokens = tokenizer_->encode(text);
  if (static_cast<std::int64_t>(tokens.size()) > max_tokens_) {
    tokens.erase(tokens.begin() + (max_tokens_ - 1), tokens.end() - 1);  // the last one ends a text
  }
  return tokens;
}

torch::Tensor TextEmbedder::embed(std::span<const std::string> texts, Context& context) const {
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> indptr = {0};
  for (const std::string& text : texts) {
    const std::vector<std::int32_t> more = tokens_of(text);
    tokens.insert(tokens.end(), more.begin(), more.end());
    indptr.push_back(static_cast<std::int32_t>(tokens.size()));
  }
  const torch::Tensor x = bert_.forward(tokens, indptr, context);
  torch::Tensor means = torch::empty({static_cast<std::int64_t>(texts.size()), x.size(1)});
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const torch::Tensor mean = x.slice(0, indptr[i], indptr[i + 1]).mean(0);
    means[static_cast<std::int64_t>(i)] = mean / mean.norm().clamp_min(1e-12);
  }
  return means;
}

}  // namespace perpend
