#include "perpend/io/checkpoint.h"

#include <filesystem>
#include <map>
#include <set>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/json_text.h"
#include "perpend/io/text_file.h"

namespace perpend {
namespace {

namespace fs = std::filesystem;

// The tensors that the index expects in each shard.
using TensorsOfShards = std::map<std::string, std::vector<std::string>>;

TensorsOfShards read_index(const std::string& index_path, const std::string& text) {
  const nlohmann::json index = parse_json_object(text, index_path);
  if (!index.contains("weight_map") || !index["weight_map"].is_object()) {
    throw IoError(concat(index_path, ": key 'weight_map': expected an object"));
  }
  if (index["weight_map"].empty()) {
    throw IoError(concat(index_path, ": key 'weight_map': names no weights"));
  }
  TensorsOfShards shards;
  for (const auto& [tensor, shard] : index["weight_map"].items()) {
    // A name must stay inside the folder.
    const std::string name = shard.is_string() ? shard.get<std::string>() : "";
    if (name.empty() || fs::path(name).filename() != fs::path(name)) {
      throw IoError(concat(index_path, ": tensor '", tensor.substr(0, 100),
                           "': expected the name of a file in the folder"));
    }
    shards[name].push_back(tensor);
  }
  return shards;
}

// Half a download otherwise looks like a model of another family.
void check_shard_holds(const SafetensorsFile& shard, const std::vector<std::string>& tensors,
                       const std::string& index_path) {
  std::set<std::string_view> held(shard.other_tensors().begin(), shard.other_tensors().end());
  for (const StoredTensor& tensor : shard.tensors()) held.insert(tensor.name);
  for (const std::string& tensor : tensors) {
    if (!held.contains(tensor)) {
      throw IoError(concat(index_path, ": tensor '", tensor.substr(0, 100),
                           "': ", fs::path(shard.name()).filename().string(), " does not hold it"));
    }
  }
}

}  // namespace

Checkpoint Checkpoint::open(const std::string& path) {
  Checkpoint checkpoint;
  checkpoint.path_ = path;
  std::error_code error;
  if (!fs::exists(path, error)) {
    throw IoError(concat("model '", path, "': no such file or folder"));
  }
  if (fs::is_directory(path, error)) {
    checkpoint.open_folder();
  } else {
    checkpoint.gguf_ = GgufFile::open(path);
    const auto tensors = checkpoint.gguf_->tensors();
    checkpoint.tensors_.assign(tensors.begin(), tensors.end());
  }
  for (std::size_t i = 0; i < checkpoint.tensors_.size(); ++i) {
    if (!checkpoint.index_.emplace(checkpoint.tensors_[i].name, i).second) {
      throw IoError(concat(path, ": tensor '", checkpoint.tensors_[i].name, "' is in two files"));
    }
  }
  return checkpoint;
}

void Checkpoint::open_folder() {
  const auto file = [&](const char* name) { return (fs::path(path_) / name).string(); };
  const auto config = read_text_file_if_any(file("config.json"));
  if (!config) {
    throw IoError(concat("model '", path_,
                         "': the folder has no config.json; expected a Hugging "
                         "Face folder or a .gguf file"));
  }
  config_json_ = *config;
  tokenizer_json_ = read_text_file_if_any(file("tokenizer.json")).value_or("");
  tokenizer_config_json_ = read_text_file_if_any(file("tokenizer_config.json")).value_or("");
  generation_config_json_ = read_text_file_if_any(file("generation_config.json")).value_or("");
  chat_template_text_ = read_text_file_if_any(file("chat_template.jinja")).value_or("");
  const std::string index_path = file("model.safetensors.index.json");
  if (const auto index = read_text_file_if_any(index_path)) {
    for (const auto& [name, tensors] : read_index(index_path, *index)) {
      shards_.push_back(SafetensorsFile::open(file(name.c_str())));
      check_shard_holds(shards_.back(), tensors, index_path);
    }
  } else {
    shards_.push_back(SafetensorsFile::open(file("model.safetensors")));
  }
  for (const SafetensorsFile& shard : shards_) {
    tensors_.insert(tensors_.end(), shard.tensors().begin(), shard.tensors().end());
  }
}

const GgufFile& Checkpoint::gguf() const {
  if (!gguf_) bug("Checkpoint: no GGUF file in a Hugging Face folder");
  return *gguf_;
}

const StoredTensor* Checkpoint::tensor(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

}  // namespace perpend
