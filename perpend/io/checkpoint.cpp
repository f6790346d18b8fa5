#include "perpend/io/checkpoint.h"

#include <filesystem>

#include "perpend/core/error.h"
#include "perpend/io/safetensors_shards.h"
#include "perpend/io/text_file.h"

namespace perpend {
namespace {

namespace fs = std::filesystem;

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
  shards_ = open_safetensors_shards(path_, "model.safetensors");
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
