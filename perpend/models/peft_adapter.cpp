#include "perpend/models/peft_adapter.h"

#include <array>
#include <filesystem>
#include <utility>

#include <ATen/ops/empty.h>
#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/json_text.h"
#include "perpend/io/text_file.h"
#include "perpend/models/rotary_rows.h"

namespace perpend {
namespace {

constexpr std::string_view kPrefix = "base_model.model.";

torch::Tensor read_f32(const StoredTensor& stored, const std::vector<std::int64_t>& shape,
                       const std::string& file) {
  if (stored.shape != shape) {
    throw IoError(concat(file, ": tensor '", stored.name, "': expected the shape ",
                         torch::IntArrayRef(shape), ", found ", torch::IntArrayRef(stored.shape)));
  }
  torch::Tensor tensor = at::empty(shape, torch::kFloat32);
  dequantize_row(stored.format, stored.bytes,
                 {tensor.data_ptr<float>(), static_cast<std::size_t>(tensor.numel())});
  return tensor;
}

// Changes of the plain rule that are not built.
void check_kind(const nlohmann::json& json, const std::string& file) {
  if (json.value("peft_type", "LORA") != "LORA") {
    throw Unsupported(
        concat(file, ": peft_type ", json["peft_type"].dump(), " is not built; LORA is"));
  }
  for (const char* key : {"use_dora", "use_rslora", "fan_in_fan_out"}) {
    if (json.value(key, false)) throw Unsupported(concat(file, ": ", key, " is not built"));
  }
  for (const char* key : {"rank_pattern", "alpha_pattern"}) {
    if (json.contains(key) && !json[key].is_null() && !json[key].empty()) {
      throw Unsupported(concat(file, ": ", key, " is not built"));
    }
  }
}

}  // namespace

std::string PeftNames::down(std::string_view matrix) {
  return concat(kPrefix, matrix, ".lora_A.weight");
}

std::string PeftNames::up(std::string_view matrix) {
  return concat(kPrefix, matrix, ".lora_B.weight");
}

PeftAdapter PeftAdapter::open(const std::string& folder) {
  std::error_code error;
  for (const char* name : {PeftNames::kConfig, PeftNames::kTensors}) {
    if (std::filesystem::exists(std::filesystem::path(folder) / name, error)) continue;
    throw IoError(concat(folder, ": expected a folder with the adapters of a model, found no ",
                         name, " there"));
  }
  PeftAdapter adapter(folder, SafetensorsFile::open(concat(folder, "/", PeftNames::kTensors)));
  adapter.read_config();
  return adapter;
}

void PeftAdapter::read_config() {
  const std::string file = concat(path_, "/", PeftNames::kConfig);
  config_text_ = read_text_file(file);
  const nlohmann::json json = parse_json_object(config_text_, file);
  try {
    check_kind(json, file);
    rank_ = json.at("r").get<int>();
    alpha_ = json.at("lora_alpha").get<double>();
  } catch (const nlohmann::json::exception& error) {
    throw IoError(concat(file, ": not an adapter's configuration: ", error.what()));
  }
  if (rank_ < 1 || !(alpha_ > 0)) {
    throw IoError(concat(file, ": r and lora_alpha must be positive (", rank_, ", ", alpha_, ")"));
  }
}

std::optional<BlockRankConfig> PeftAdapter::blockrank(const ModelConfig& config) const {
  return parse_blockrank(config_text_, concat(path_, "/", PeftNames::kConfig),
                         {config.num_layers, config.context_length});
}

std::optional<LoraAdapter> PeftAdapter::find(std::string_view matrix, std::int64_t outputs,
                                             std::int64_t inputs, const ModelConfig& config) const {
  const StoredTensor* down = file_.tensor(PeftNames::down(matrix));
  const StoredTensor* up = file_.tensor(PeftNames::up(matrix));
  if (down == nullptr && up == nullptr) return std::nullopt;
  if (down == nullptr || up == nullptr) {
    const std::string missing = down == nullptr ? PeftNames::down(matrix) : PeftNames::up(matrix);
    throw IoError(
        concat(file_.name(), ": tensor '", missing, "' is missing beside the other of ", matrix));
  }
  LoraAdapter adapter{.down = read_f32(*down, {rank_, inputs}, file_.name()),
                      .up = read_f32(*up, {outputs, rank_}, file_.name()),
                      .scale = alpha_ / rank_};
  if (is_of_turned_rows(matrix)) adapter.up = from_half_split(adapter.up, config);
  return adapter;
}

void PeftAdapter::check_all_known(const std::set<std::string>& matrices) const {
  std::set<std::string> known;
  for (const std::string& matrix : matrices) {
    known.insert(PeftNames::down(matrix));
    known.insert(PeftNames::up(matrix));
  }
  const auto check_name = [&](const std::string& name) {
    if (known.contains(name)) return;
    throw IoError(concat(file_.name(), ": tensor '", name, "' belongs to no matrix of the model"));
  };
  for (const StoredTensor& tensor : file_.tensors()) check_name(std::string(tensor.name));
  for (const std::string& name : file_.other_tensors()) check_name(name);
}

}  // namespace perpend
