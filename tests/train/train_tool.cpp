// Gradients for the oracle test: train MODEL RUN.json OUT.safetensors
//
// RUN.json is {"sequences": [[token, ...], ...], "layers": masks, "recompute": true or false}, with
// "weights": [[weight, ...], ...] and "diffusion": {...} (Recipe of noising_reference.py) to
// noise them. Prints {"loss": the mean cross-entropy of all next tokens, or of masked ones}; OUT
// gets "logits" [rows, vocab_size] and the gradient of every parameter under its Hugging Face name,
// in f32.

#include <memory>
#include <span>

#include <ATen/ops/linear.h>
#include <nlohmann/json.hpp>

#include "perpend/io/safetensors_writer.h"
#include "perpend/io/text_file.h"
#include "perpend/mask/layer_masks.h"
#include "perpend/models/llama.h"
#include "perpend/nn/runtime.h"
#include "perpend/train/mask_binder.h"
#include "perpend/train/masked_token_loss.h"
#include "perpend/train/next_token_loss.h"
#include "perpend/train/noised_copies.h"

namespace perpend::train_tool {
namespace {

using nlohmann::json;

DiffusionAttention read_attention(const json& recipe) {
  if (recipe["attention"] == "full") return DiffusionAttention::kFull;
  return recipe["attention"] == "block" ? DiffusionAttention::kBlock
                                        : DiffusionAttention::kContextCausal;
}

NoisingOptions read_diffusion(const json& recipe) {
  NoisingOptions options;
  options.attention = read_attention(recipe);
  options.block_size.first = options.block_size.last = recipe["block_size"];
  options.mask_token_id = recipe["mask_token_id"];
  options.views = recipe["views"];
  options.noise_unit =
      recipe["by_block"] ? NoisingOptions::NoiseUnit::kBlock : NoisingOptions::NoiseUnit::kSequence;
  options.shift = recipe["shift"];
  options.first_of_block = recipe["first_of_block"];
  options.inverse_weight = recipe["inverse_weight"];
  options.max_weight = recipe["max_weight"];
  options.clean_targets = recipe["next_token_weight"] > 0;
  options.seed = recipe["seed"];
  return options;
}

std::vector<TrainingSequence> read_sequences(const json& run) {
  std::vector<TrainingSequence> sequences;
  for (const json& tokens : run["sequences"]) {
    sequences.emplace_back().tokens = tokens.get<std::vector<std::int32_t>>();
  }
  if (!run.contains("diffusion")) return sequences;
  const NoisedCopies noise(read_diffusion(run["diffusion"]));
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    sequences[i].weights = run["weights"][i].get<std::vector<float>>();
    sequences[i] = noise.apply(sequences[i], {.number = static_cast<std::int64_t>(i), .step = 0});
  }
  return sequences;
}

PackedBatch read_batch(const json& run) {
  const std::vector<TrainingSequence> sequences = read_sequences(run);
  const std::vector<std::int64_t> numbers(sequences.size());
  return pack(sequences, numbers);
}

torch::Tensor mean_loss(const json& run, const LossInput& input) {
  const auto mean_of = [&](const Loss& loss) { return loss.sum(input) / loss.count(input.batch); };
  if (!run.contains("diffusion")) return mean_of(NextTokenLoss());
  const torch::Tensor masked = mean_of(MaskedTokenLoss());
  const double weight = run["diffusion"]["next_token_weight"];
  return weight > 0 ? masked + weight * mean_of(NextTokenLoss()) : masked;
}

TrainInput make_input(const PackedBatch& batch, const json& run, int num_layers) {
  const auto tensor = [](const std::vector<std::int32_t>& values) {
    return torch::tensor(values, torch::kInt32);
  };
  const auto masks = parse_layer_masks(run["layers"].get<std::string>(), num_layers);
  return {.tokens = tensor(batch.tokens),
          .positions = tensor(batch.positions),
          .q_indptr = tensor(batch.q_indptr),
          .layer_masks = MaskBinder(masks).bind(batch),
          .captured_layers = {},
          .recompute = run["recompute"].get<bool>()};
}

using Results = std::vector<std::pair<std::string, torch::Tensor>>;

void write(const std::string& path, const Results& results) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : results) {
    specs.push_back({name, BlockFormat::kF32, tensor.sizes().vec()});
  }
  SafetensorsWriter writer(path, {}, specs);
  for (const auto& [name, tensor] : results) {
    const torch::Tensor values = tensor.contiguous();
    writer.write(name, {static_cast<const std::byte*>(values.data_ptr()), values.nbytes()});
  }
  writer.finish();
}

double run(const std::string& model_path, const json& spec, const std::string& out) {
  Runtime runtime(2);
  const Checkpoint checkpoint = Checkpoint::open(model_path);
  const ModelConfig config = read_model_config(checkpoint);
  const Llama model(config, WeightReader(checkpoint, config), torch::kFloat32, runtime.context());
  const auto parameters = model.named_parameters();
  for (const auto& [parts, tensor] : parameters) tensor.requires_grad_(true);

  const PackedBatch batch = read_batch(spec);
  const TrainOutput output = model.train_forward(make_input(batch, spec, config.num_layers));
  const torch::Tensor mean = mean_loss(spec, {batch, output.hidden, model.head_weight(), {}});
  mean.backward();

  Results results = {{"logits", at::linear(output.hidden, model.head_weight()).detach()}};
  for (const auto& [parts, tensor] : parameters) {
    for (const NamedParameter::Part& part : parts) {
      results.emplace_back(part.name, tensor.grad().narrow(0, part.first_row, part.num_rows));
    }
  }
  write(out, results);
  return mean.item<double>();
}

}  // namespace

json answer(std::span<char*> arguments) {
  return {{"loss", run(arguments[0], json::parse(read_text_file(arguments[1])), arguments[2])}};
}

}  // namespace perpend::train_tool
