#include "perpend/models/peft_adapter.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include <ATen/ops/empty.h>
#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/json_text.h"
#include "perpend/io/safetensors_shards.h"
#include "perpend/io/text_file.h"
#include "perpend/models/diffusion_config.h"
#include "perpend/models/rotary_rows.h"

namespace perpend {
namespace {

constexpr std::string_view kPrefix = "base_model.model.";

void check_shape(const std::string& name, const std::vector<std::int64_t>& found,
                 const std::vector<std::int64_t>& expected, const std::string& file) {
  if (found == expected) return;
  throw IoError(concat(file, ": tensor '", name, "': expected the shape ",
                       torch::IntArrayRef(expected), ", found ", torch::IntArrayRef(found)));
}

torch::Tensor read_f32(const StoredTensor& stored, const std::vector<std::int64_t>& shape,
                       const std::string& file) {
  check_shape(stored.name, stored.shape, shape, file);
  torch::Tensor tensor = at::empty(shape, torch::kFloat32);
  dequantize_row(stored.format, stored.bytes,
                 {tensor.data_ptr<float>(), static_cast<std::size_t>(tensor.numel())});
  return tensor;
}

// Row by row: the whole numbers times the row's scale.
torch::Tensor read_int8(const Int8Tensor& stored, const StoredTensor* scale,
                        const std::vector<std::int64_t>& shape, const std::string& file) {
  check_shape(stored.name, stored.shape, shape, file);
  if (scale == nullptr) {
    throw IoError(concat(file, ": tensor '", stored.name, PeftNames::kScale,
                         "' is missing beside whole numbers"));
  }
  // LibTorch has no tensors of constant memory.
  auto* numbers = const_cast<std::byte*>(stored.bytes.data());
  return torch::from_blob(numbers, shape, torch::kInt8).to(torch::kFloat32) *
         read_f32(*scale, {shape[0]}, file).unsqueeze(1);
}

// The tokens whose rows an adapter brings: a list, or {"embed_tokens": list}.
std::vector<std::int32_t> token_indices(const nlohmann::json& json, const std::string& file) {
  const auto found = json.find(PeftNames::kTokenIndices);
  if (found == json.end() || found->is_null()) return {};
  if (found->is_object() && (found->size() != 1 || !found->contains(PeftNames::kEmbedding))) {
    throw Unsupported(concat(file, ": ", PeftNames::kTokenIndices, " of anything but ",
                             PeftNames::kEmbedding, " is not built"));
  }
  const nlohmann::json& list = found->is_object() ? (*found)[PeftNames::kEmbedding] : *found;
  return list.get<std::vector<std::int32_t>>();
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
  const auto has_file = [&](const std::string& name) {
    return std::filesystem::exists(std::filesystem::path(folder) / name, error);
  };
  const std::string tensors = PeftNames::kTensors;
  const char* missing = !has_file(PeftNames::kConfig) ? PeftNames::kConfig
                        : !has_file(tensors) && !has_file(tensors + ".index.json")
                            ? PeftNames::kTensors
                            : nullptr;
  if (missing != nullptr) {
    throw IoError(concat(folder, ": expected a folder with the adapters of a model, found no ",
                         missing, " there"));
  }
  PeftAdapter adapter(folder, open_safetensors_shards(folder, tensors));
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
    tokens_ = token_indices(json, file);
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
  const std::string down = PeftNames::down(matrix);
  const std::string up = PeftNames::up(matrix);
  if (!has(down) && !has(up)) return std::nullopt;
  if (!has(down) || !has(up)) {
    throw IoError(concat(path_, ": tensor '", has(up) ? down : up,
                         "' is missing beside the other of ", matrix));
  }
  LoraAdapter adapter{.down = read(down, {rank_, inputs}),
                      .up = read(up, {outputs, rank_}),
                      .scale = alpha_ / rank_};
  if (is_of_turned_rows(matrix)) adapter.up = from_half_split(adapter.up, config);
  return adapter;
}

bool PeftAdapter::has(const std::string& name) const {
  return std::any_of(files_.begin(), files_.end(), [&](const SafetensorsFile& file) {
    return file.tensor(name) != nullptr || file.int8_tensor(name) != nullptr;
  });
}

torch::Tensor PeftAdapter::read(const std::string& name,
                                const std::vector<std::int64_t>& shape) const {
  for (const SafetensorsFile& file : files_) {
    if (const StoredTensor* stored = file.tensor(name))
      return read_f32(*stored, shape, file.name());
    if (const Int8Tensor* stored = file.int8_tensor(name)) {
      return read_int8(*stored, file.tensor(name + PeftNames::kScale), shape, file.name());
    }
  }
  throw IoError(concat(path_, ": tensor '", name, "' is missing"));
}

std::vector<TokenRow> PeftAdapter::token_rows(const ModelConfig& config) const {
  std::vector<TokenRow> rows;
  if (tokens_.empty()) return rows;
  const auto count = static_cast<std::int64_t>(tokens_.size());
  const torch::Tensor values = read(PeftNames::kTokenRows, {count, config.model_dim});
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int32_t token = tokens_[static_cast<std::size_t>(i)];
    if (token < 0 || token >= config.vocab_size) {
      throw IoError(concat(path_, ": ", PeftNames::kTokenIndices, ": token ", token,
                           " is outside the vocabulary of ", config.vocab_size));
    }
    rows.push_back({token, values[i]});
  }
  return rows;
}

std::optional<DiffusionConfig> PeftAdapter::diffusion() const {
  return parse_diffusion(config_text_, concat(path_, "/", PeftNames::kConfig), "");
}

void PeftAdapter::check_all_known(const std::set<std::string>& matrices) const {
  std::set<std::string> known;
  for (const std::string& matrix : matrices) {
    known.insert(PeftNames::down(matrix));
    known.insert(PeftNames::up(matrix));
  }
  if (!tokens_.empty()) known.insert(PeftNames::kTokenRows);
  for (const SafetensorsFile& file : files_) {
    const auto check_name = [&](const std::string& name) {
      if (known.contains(name)) return;
      throw IoError(concat(file.name(), ": tensor '", name, "' belongs to no matrix of the model"));
    };
    for (const StoredTensor& tensor : file.tensors()) {
      // Of whole numbers alone there are scales.
      const std::size_t end = tensor.name.rfind(PeftNames::kScale);
      const bool is_scale =
          end != std::string::npos && file.int8_tensor(tensor.name.substr(0, end)) != nullptr;
      if (!is_scale) check_name(tensor.name);
    }
    for (const std::string& name : file.other_tensors()) check_name(name);
  }
}

}  // namespace perpend
