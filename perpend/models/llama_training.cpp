// How autograd sees a Llama: its weights by name, and a forward pass that is recorded.

#include <algorithm>
#include <utility>

#include <ATen/ops/cos.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/sin.h>

#include "perpend/models/llama.h"
#include "perpend/nn/recompute.h"

namespace perpend {
namespace {

std::vector<NamedParameter::Part> parts_of(const std::vector<WeightRole>& roles, int layer,
                                           std::string_view suffix, const ModelConfig& config) {
  std::vector<NamedParameter::Part> parts;
  std::int64_t first = 0;
  for (const WeightRole role : roles) {
    const std::int64_t rows = weight_shape(config, role).front();
    parts.push_back(
        {weight_name(Checkpoint::Kind::kHuggingFace, config.architecture, role, layer, suffix),
         first, rows});
    first += rows;
  }
  return parts;
}

// Throws unless all of `values` (i32, of the host) are in [0, bound).
void check_range(const torch::Tensor& values, std::int64_t bound, std::string_view what) {
  const auto* begin = values.data_ptr<std::int32_t>();
  const auto* end = begin + values.numel();
  const auto* wrong =
      std::find_if(begin, end, [&](std::int32_t value) { return value < 0 || value >= bound; });
  if (wrong != end)
    throw InvalidArgument(concat("model: ", what, " ", *wrong, " is not below ", bound));
}

void check_input(const TrainInput& input, const ModelConfig& config) {
  check_eq(input.tokens.size(0), input.positions.size(0), "model: tokens and positions differ");
  check_eq(static_cast<int>(input.layer_masks.size()), config.num_layers,
           "model: masks and layers differ");
  check_range(input.tokens, config.vocab_size, "token id");
  check_range(input.positions, config.context_length, "position");
}

// Without waiting for what the device has yet to do.
torch::Tensor to_device(const torch::Tensor& host, torch::Device device) {
  return device.is_cpu() ? host : host.pin_memory().to(device, /*non_blocking=*/true);
}

void append_trained(const Linear& linear, std::vector<torch::Tensor>& leaves) {
  const auto add = [&](const torch::Tensor& tensor) {
    if (tensor.defined() && tensor.requires_grad()) leaves.push_back(tensor);
  };
  add(linear.weight());
  add(linear.bias());
  for (const LoraAdapter& adapter : linear.adapters()) {
    add(adapter.down);
    add(adapter.up);
  }
}

}  // namespace

std::vector<NamedParameter> Llama::named_parameters() const {
  std::vector<NamedParameter> named;
  for (const ModelParameter& parameter : parameters()) {
    const std::string_view suffix = parameter.is_bias ? ".bias" : ".weight";
    named.push_back(
        {parts_of(parameter.roles, parameter.layer, suffix, config_), parameter.tensor});
  }
  return named;
}

std::vector<NamedLinear> Llama::layer_linears() {
  using enum WeightRole;
  std::vector<NamedLinear> linears;
  for (int index = 0; index < config_.num_layers; ++index) {
    Layer& layer = layers_[static_cast<std::size_t>(index)];
    const auto add = [&](const std::vector<WeightRole>& roles, Linear& linear) {
      linears.push_back({parts_of(roles, index, "", config_), &linear});
    };
    add({kQuery, kKey, kValue}, layer.attention.qkv());
    add({kAttentionOutput}, layer.attention.out());
    add({kGate, kUp}, layer.mlp.gate_up());
    add({kDown}, layer.mlp.down());
  }
  return linears;
}

void Llama::merge_adapters() {
  for (const NamedLinear& named : layer_linears()) named.linear->merge_adapters();
}

std::vector<torch::Tensor> Llama::trained_leaves(const Layer& layer) {
  std::vector<torch::Tensor> leaves;
  for (const RmsNorm* norm : {&layer.attention_norm, &layer.mlp_norm}) {
    if (norm->weight().requires_grad()) leaves.push_back(norm->weight());
  }
  for (const Linear* linear :
       {&layer.attention.qkv(), &layer.attention.out(), &layer.mlp.gate_up(), &layer.mlp.down()}) {
    append_trained(*linear, leaves);
  }
  return leaves;
}

TrainBatch Llama::make_train_batch(const TrainInput& input) const {
  const torch::Device device = embedding_.weight().device();
  const torch::Tensor frequencies =
      to_device(torch::tensor(rotary_frequencies(config_.rotary)), device);
  // As RotaryTables makes them: the angle is rounded to f32 first.
  const torch::Tensor positions = to_device(input.positions, device).to(torch::kFloat32);
  const torch::Tensor angles = (positions.unsqueeze(1) * frequencies).to(torch::kFloat64);
  return {.cos = at::cos(angles).to(torch::kFloat32),
          .sin = at::sin(angles).to(torch::kFloat32),
          .q_indptr = input.q_indptr};
}

TrainOutput Llama::train_forward(const TrainInput& input) const {
  check_input(input, config_);
  const TrainBatch batch = make_train_batch(input);
  const torch::Tensor& embedding = embedding_.weight();
  const torch::ScalarType type = embedding.scalar_type();
  const auto is_captured = [&](int layer) {
    return std::find(input.captured_layers.begin(), input.captured_layers.end(), layer) !=
           input.captured_layers.end();
  };
  torch::Tensor x =
      at::embedding(embedding, to_device(input.tokens, embedding.device())).to(torch::kFloat32);
  TrainOutput output;
  for (int index = 0; index < config_.num_layers; ++index) {
    const Layer& layer = layers_[static_cast<std::size_t>(index)];
    const BatchMasks& masks = input.layer_masks[static_cast<std::size_t>(index)];
    const auto run = [&layer, masks, batch, type](const torch::Tensor& residual) {
      const NormedSum before = layer.attention_norm.train_forward(residual, {}, type);
      const auto attended = layer.attention.train_forward(before.normed, batch, *masks);
      const NormedSum between = layer.mlp_norm.train_forward(before.sum, attended.out, type);
      const torch::Tensor mlp = layer.mlp.train_forward(between.normed);
      return std::vector<torch::Tensor>{between.sum + mlp, attended.heads.q, attended.heads.k};
    };
    const auto results = input.recompute ? recomputed(run, x, trained_leaves(layer)) : run(x);
    x = results[0];
    if (is_captured(index)) output.captured[index] = {results[1], results[2]};
  }
  output.hidden = final_norm_.train_forward(x, {}, type).normed;
  return output;
}

}  // namespace perpend
