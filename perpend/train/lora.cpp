#include "perpend/train/lora.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/core/random.h"
#include "perpend/io/atomic_file.h"
#include "perpend/io/atomic_folder.h"
#include "perpend/io/json_text.h"
#include "perpend/io/safetensors.h"
#include "perpend/io/safetensors_writer.h"
#include "perpend/io/text_file.h"
#include "perpend/models/rotary_rows.h"

namespace perpend {
namespace {

constexpr std::string_view kPeftPrefix = "base_model.model.";
constexpr std::string_view kDown = ".lora_A.weight";
constexpr std::string_view kUp = ".lora_B.weight";
constexpr const char* kAdapterConfig = "adapter_config.json";
constexpr const char* kAdapterTensors = "adapter_model.safetensors";

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

torch::Tensor tensor_of(const SafetensorsFile& file, const std::string& name,
                        torch::IntArrayRef shape) {
  const StoredTensor* stored = file.tensor(name);
  if (stored == nullptr) throw IoError(concat(file.name(), ": tensor '", name, "' is missing"));
  if (torch::IntArrayRef(stored->shape) != shape) {
    throw IoError(concat(file.name(), ": tensor '", name, "': expected the shape ", shape));
  }
  torch::Tensor tensor = torch::empty(shape);
  dequantize_row(stored->format, stored->bytes,
                 {tensor.data_ptr<float>(), static_cast<std::size_t>(tensor.numel())});
  return tensor;
}

LoraOptions read_options(const std::string& file) {
  const nlohmann::json json = parse_json_object(read_text_file(file), file);
  try {
    LoraOptions options;
    options.rank = json.at("r").get<int>();
    options.alpha = json.at("lora_alpha").get<double>();
    options.targets = json.at("target_modules").get<std::vector<std::string>>();
    check_options(options);
    return options;
  } catch (const nlohmann::json::exception& error) {
    throw IoError(concat(file, ": not an adapter's configuration: ", error.what()));
  }
}

void write_config(const std::string& folder, const std::string& base, const LoraOptions& options) {
  const nlohmann::json json = {{"peft_type", "LORA"},
                               {"task_type", "CAUSAL_LM"},
                               {"base_model_name_or_path", base},
                               {"r", options.rank},
                               {"lora_alpha", options.alpha},
                               {"lora_dropout", 0.0},
                               {"bias", "none"},
                               {"fan_in_fan_out", false},
                               {"inference_mode", true},
                               {"target_modules", options.targets}};
  AtomicFile file(concat(folder, "/", kAdapterConfig));
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
      trained.push_back({concat(kPeftPrefix, part.name, kDown), adapter.down});
      trained.push_back({concat(kPeftPrefix, part.name, kUp), adapter.up});
    }
  }
  return trained;
}

void write_lora(const std::string& folder, const std::string& base, const LoraOptions& options,
                const DifferentiableModel& model, const std::vector<TrainedTensor>& tensors) {
  AtomicFolder target(folder);
  write_config(target.staging_path(), base, options);
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : tensors) {
    specs.push_back({name, BlockFormat::kF32, tensor.sizes().vec()});
  }
  SafetensorsWriter writer(concat(target.staging_path(), "/", kAdapterTensors), {{"format", "pt"}},
                           specs);
  for (const auto& [name, tensor] : tensors) {
    torch::Tensor host = tensor.detach().to(torch::kCPU, torch::kFloat32).contiguous();
    if (name.ends_with(kUp) && is_of_turned_rows(name)) host = to_half_split(host, model.config());
    writer.write(name, {static_cast<const std::byte*>(host.data_ptr()), host.nbytes()});
  }
  writer.finish();
  target.commit([](std::string_view) { return true; });
}

void read_lora(const std::string& folder, DifferentiableModel& model) {
  const LoraOptions options = read_options(concat(folder, "/", kAdapterConfig));
  const auto file = SafetensorsFile::open(concat(folder, "/", kAdapterTensors));
  std::size_t num_read = 0;
  for (const auto& [parts, linear] : model.layer_linears()) {
    for (const NamedParameter::Part& part : parts) {
      if (!is_target(options, part.name)) continue;
      const std::string name = concat(kPeftPrefix, part.name);
      const torch::Tensor down =
          tensor_of(file, concat(name, kDown), {options.rank, linear->in_features()});
      torch::Tensor up = tensor_of(file, concat(name, kUp), {part.num_rows, options.rank});
      if (is_of_turned_rows(part.name)) up = from_half_split(up, model.config());
      const auto type = linear->weight().options().requires_grad(false);
      linear->add_adapter({.down = down.to(type),
                           .up = up.to(type),
                           .first_output = part.first_row,
                           .scale = options.alpha / options.rank});
      num_read += 2;
    }
  }
  check_eq(
      file.tensors().size(), num_read,
      concat(file.name(), ": tensors of the file and of the model's matrices differ in number"));
}

}  // namespace perpend
