#include "perpend/train/training_state.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>
#include <span>

#include <nlohmann/json.hpp>
#include <torch/types.h>
#include <zlib.h>

#include "perpend/core/error.h"
#include "perpend/io/atomic_file.h"
#include "perpend/io/atomic_folder.h"
#include "perpend/io/json_text.h"
#include "perpend/io/mapped_file.h"
#include "perpend/io/safetensors.h"
#include "perpend/io/safetensors_writer.h"
#include "perpend/io/text_file.h"

namespace perpend {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStateTensors = "/state.safetensors";
constexpr std::string_view kStateFile = "/state.json";
constexpr std::string_view kStateFormat = "perpend-training-state";
constexpr std::string_view kStatePrefix = "step-";

std::uint32_t crc_of(std::span<const std::byte> bytes) {
  return static_cast<std::uint32_t>(
      crc32_z(0, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()));
}

void write_tensors(const std::string& path, const std::vector<TrainedTensor>& tensors) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : tensors) {
    check(tensor.scalar_type() == torch::kFloat32,
          concat("training state: tensor ", name, " is not f32"));
    specs.push_back({name, BlockFormat::kF32, tensor.sizes().vec()});
  }
  SafetensorsWriter writer(path, {{"format", "pt"}}, specs);
  for (const auto& [name, tensor] : tensors) {
    const torch::Tensor host = tensor.detach().cpu().contiguous();
    writer.write(name, {static_cast<const std::byte*>(host.data_ptr()), host.nbytes()});
  }
  writer.finish();
}

nlohmann::json read_state(const std::string& file) {
  nlohmann::json json = parse_json_object(read_text_file(file), file);
  if (json.value("format", "") != kStateFormat || json.value("version", 0) != 1) {
    throw IoError(concat(file, ": expected the format '", kStateFormat, "', version 1"));
  }
  for (const char* key : {"num_steps", "num_read", "num_tokens", "dataset_size", "seed", "crc32"}) {
    const auto found = json.find(key);
    if (found == json.end() || !found->is_number_integer() || *found < 0) {
      throw IoError(concat(file, ": ", key, ": expected a number"));
    }
  }
  return json;
}

// The stored tensors in the order of `tensors`.
std::vector<const StoredTensor*> match(const SafetensorsFile& file,
                                       const std::vector<TrainedTensor>& tensors) {
  check_eq(file.tensors().size(), tensors.size(),
           concat(file.name(), ": tensors of the file and of this run differ in number"));
  std::vector<const StoredTensor*> stored;
  for (const auto& [name, tensor] : tensors) {
    stored.push_back(file.tensor(name));
    if (stored.back() == nullptr) {
      throw IoError(concat(file.name(), ": tensor '", name, "' is missing"));
    }
    const bool fits = stored.back()->format == BlockFormat::kF32 &&
                      torch::IntArrayRef(stored.back()->shape) == tensor.sizes();
    if (!fits) {
      throw IoError(concat(file.name(), ": tensor '", name, "': expected f32 ", tensor.sizes()));
    }
  }
  return stored;
}

std::optional<std::int64_t> step_of(const std::string& name) {
  std::int64_t step = 0;
  const char* end = name.data() + name.size();
  if (!name.starts_with(kStatePrefix)) return std::nullopt;
  const auto [stop, error] = std::from_chars(name.data() + kStatePrefix.size(), end, step);
  if (error != std::errc() || stop != end) return std::nullopt;
  return step;
}

}  // namespace

void save_training_state(const std::string& folder, const TrainingState& state,
                         const std::vector<TrainedTensor>& tensors) {
  AtomicFolder target(folder);
  const std::string tensor_path = concat(target.staging_path(), kStateTensors);
  write_tensors(tensor_path, tensors);
  const nlohmann::json json = {{"format", kStateFormat},
                               {"version", 1},
                               {"num_steps", state.place.num_steps},
                               {"num_read", state.place.num_read},
                               {"num_tokens", state.place.num_tokens},
                               {"dataset_size", state.dataset_size},
                               {"seed", state.seed},
                               {"crc32", crc_of(MappedFile::open(tensor_path).bytes())}};
  AtomicFile file(concat(target.staging_path(), kStateFile));
  file.write(json_document(json, folder));
  file.commit();
  target.commit([](std::string_view) { return true; });
}

TrainingState load_training_state(const std::string& folder,
                                  const std::vector<TrainedTensor>& tensors) {
  const nlohmann::json json = read_state(concat(folder, kStateFile));
  const MappedFile mapped = MappedFile::open(concat(folder, kStateTensors));
  if (crc_of(mapped.bytes()) != json["crc32"]) {
    throw IoError(concat(mapped.path(), ": damaged: its CRC-32 is not the one in state.json"));
  }
  const SafetensorsFile file = SafetensorsFile::parse(mapped.bytes(), mapped.path());
  const std::vector<const StoredTensor*> stored = match(file, tensors);
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    auto* bytes = const_cast<std::byte*>(stored[i]->bytes.data());
    tensors[i].tensor.copy_(torch::from_blob(bytes, tensors[i].tensor.sizes(), torch::kFloat32));
  }
  return {.place = {.num_steps = json["num_steps"],
                    .num_read = json["num_read"],
                    .num_tokens = json["num_tokens"]},
          .dataset_size = json["dataset_size"],
          .seed = json["seed"]};
}

std::string state_name(std::int64_t num_steps) {
  std::string digits = std::to_string(num_steps);
  digits.insert(0, digits.size() < 8 ? 8 - digits.size() : 0, '0');
  return concat(kStatePrefix, digits);
}

std::vector<std::int64_t> list_states(const std::string& folder) {
  std::vector<std::int64_t> steps;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const auto step = step_of(entry.path().filename().string());
    if (step && entry.is_directory()) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

void remove_old_states(const std::string& folder, int keep) {
  const std::vector<std::int64_t> steps = list_states(folder);
  std::vector<fs::path> old;
  for (std::size_t i = 0; i + static_cast<std::size_t>(keep) < steps.size(); ++i) {
    old.push_back(fs::path(folder) / state_name(steps[i]));
  }
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(kStatePrefix) && !step_of(name)) old.push_back(entry.path());
  }
  for (const fs::path& path : old) fs::remove_all(path, ignored);
}

}  // namespace perpend
