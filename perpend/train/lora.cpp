#include "perpend/train/lora.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/core/random.h"
#include "perpend/io/atomic_file.h"
#include "perpend/io/atomic_folder.h"
#include "perpend/io/json_text.h"
#include "perpend/io/safetensors_writer.h"
#include "perpend/models/peft_adapter.h"
#include "perpend/models/rotary_rows.h"
#include "perpend/train/model_folder.h"

namespace perpend {
namespace {

constexpr std::string_view kUp = ".lora_B.weight";

// "model.layers.0.mlp.up_proj" -> "up_proj"
std::string last_part(const std::string& name) { return name.substr(name.rfind('.') + 1); }

void check_options(const LoraOptions& options) {
  check(options.rank >= 1, concat("lora: rank must be at least 1 (", options.rank, ")"));
  check(options.alpha > 0, concat("lora: alpha must be positive (", options.alpha, ")"));
  check(!options.targets.empty(), "lora: there are no targets");
  const std::vector<std::string> known = lora_targets();
  for (const std::string& target : options.targets) {
    check(std::find(known.begin(), known.end(), target) != known.end(),
          concat("lora: unknown target '", target, "'"));
  }
}

// Uniform in +-1/sqrt(in_features), as PEFT begins (Kaiming with a = sqrt(5)).
torch::Tensor random_down(int rank, std::int64_t in_features, Random random) {
  torch::Tensor down = torch::empty({rank, in_features});
  const float bound = 1.0F / std::sqrt(static_cast<float>(in_features));
  auto* values = down.data_ptr<float>();
  for (std::int64_t i = 0; i < down.numel(); ++i) {
    values[i] = (2 * random.next_float() - 1) * bound;
  }
  return down;
}

bool is_target(const LoraOptions& options, const std::string& name) {
  return std::find(options.targets.begin(), options.targets.end(), last_part(name)) !=
         options.targets.end();
}

// Without the pairs that add nothing: those that no loss reached.
std::vector<TrainedTensor> with_effect(const std::vector<TrainedTensor>& pairs) {
  std::vector<TrainedTensor> kept;
  for (std::size_t up = 1; up < pairs.size(); up += 2) {
    if (!pairs[up].tensor.detach().any().item<bool>()) continue;
    kept.push_back(pairs[up - 1]);
    kept.push_back(pairs[up]);
  }
  // A file of an untrained adapter says at least what it is made for.
  return kept.empty() ? pairs : kept;
}

void write_config(const std::string& folder, const AdapterTexts& texts, const LoraOptions& options,
                  const ModelConfig& config) {
  nlohmann::json json = {{"peft_type", "LORA"},
                         {"task_type", "CAUSAL_LM"},
                         {"base_model_name_or_path", texts.base},
                         {"r", options.rank},
                         {"lora_alpha", options.alpha},
                         {"lora_dropout", 0.0},
                         {"bias", "none"},
                         {"fan_in_fan_out", false},
                         {"inference_mode", true},
                         {"target_modules", options.targets}};
  if (config.blockrank) json["blockrank"] = blockrank_json(*config.blockrank);
  if (!texts.diffusion_json.empty()) {
    json["diffusion"] = parse_json_object(texts.diffusion_json, folder);
  }
  if (!texts.tokens.empty()) {
    json[PeftNames::kTokenIndices] = {{PeftNames::kEmbedding, texts.tokens}};
  }
  AtomicFile file(concat(folder, "/", PeftNames::kConfig));
  file.write(json_document(json, folder));
  file.commit();
}

}  // namespace

std::vector<std::string> lora_targets() {
  return {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
}

std::vector<TrainedTensor> add_lora(DifferentiableModel& model, const LoraOptions& options,
                                    std::uint64_t seed) {
  check_options(options);
  for (const NamedParameter& parameter : model.named_parameters()) {
    parameter.tensor.requires_grad_(false);
  }
  std::vector<TrainedTensor> trained;
  std::uint64_t stream = 0;
  for (const auto& [parts, linear] : model.layer_linears()) {
    for (const NamedParameter::Part& part : parts) {
      if (!is_target(options, part.name)) continue;
      const auto type = linear->weight().options().requires_grad(false);
      const LoraAdapter adapter{
          .down = random_down(options.rank, linear->in_features(), Random(seed, ++stream)).to(type),
          .up = torch::zeros({part.num_rows, options.rank}, type),
          .first_output = part.first_row,
          .scale = options.alpha / options.rank};
      linear->add_adapter(adapter);
      trained.push_back({PeftNames::down(part.name), adapter.down});
      trained.push_back({PeftNames::up(part.name), adapter.up});
    }
  }
  return trained;
}

void write_lora(const std::string& folder, const AdapterTexts& texts, const LoraOptions& options,
                const DifferentiableModel& model, const std::vector<TrainedTensor>& tensors) {
  AtomicFolder target(folder);
  write_config(target.staging_path(), texts, options, model.config());
  std::vector<TrainedTensor> kept = with_effect(tensors);
  if (!texts.tokens.empty()) {
    const torch::Tensor rows = torch::tensor(texts.tokens).to(torch::kInt64);
    const torch::Tensor embedding = model.embedding_weight().detach();
    kept.push_back({PeftNames::kTokenRows, embedding.index_select(0, rows.to(embedding.device()))});
  }
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : kept) {
    specs.push_back({name, float_format_of(tensor), tensor.sizes().vec()});
  }
  SafetensorsWriter writer(concat(target.staging_path(), "/", PeftNames::kTensors),
                           {{"format", "pt"}}, specs);
  for (const auto& [name, tensor] : kept) {
    torch::Tensor host = tensor.detach().to(torch::kCPU).contiguous();
    if (name.ends_with(kUp) && is_of_turned_rows(name)) host = to_half_split(host, model.config());
    writer.write(name, {static_cast<const std::byte*>(host.data_ptr()), host.nbytes()});
  }
  writer.finish();
  target.commit([](std::string_view) { return true; });
}

void read_lora(const std::string& folder, DifferentiableModel& model) {
  const PeftAdapter file = PeftAdapter::open(folder);
  std::set<std::string> matrices;
  for (const auto& [parts, linear] : model.layer_linears()) {
    for (const NamedParameter::Part& part : parts) {
      matrices.insert(part.name);
      auto adapter = file.find(part.name, part.num_rows, linear->in_features(), model.config());
      if (!adapter) continue;
      const auto type = linear->weight().options().requires_grad(false);
      adapter->down = adapter->down.to(type);
      adapter->up = adapter->up.to(type);
      adapter->first_output = part.first_row;
      linear->add_adapter(*std::move(adapter));
    }
  }
  file.check_all_known(matrices);
  const torch::NoGradGuard no_grad;
  const torch::Tensor embedding = model.embedding_weight();
  for (const TokenRow& row : file.token_rows(model.config())) {
    embedding.select(0, row.token).copy_(row.values);
  }
}

}  // namespace perpend
