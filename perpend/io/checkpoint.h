#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "perpend/io/gguf.h"
#include "perpend/io/safetensors.h"

namespace perpend {

// A model on disk: a .gguf file, or a Hugging Face folder (config.json, tokenizer files, and
// model.safetensors or its shards). Weights stay mapped.
class Checkpoint {
 public:
  enum class Kind { kGguf, kHuggingFace };

  // Throws IoError for a path that is neither, a folder without config.json or weights, an index
  // that names missing files or tensors, and everything that the readers of the single files
  // refuse.
  static Checkpoint open(const std::string& path);

  Kind kind() const { return gguf_ ? Kind::kGguf : Kind::kHuggingFace; }
  const std::string& path() const { return path_; }
  std::span<const StoredTensor> tensors() const { return tensors_; }
  const StoredTensor* tensor(std::string_view name) const;

  // The GGUF file; only of kind kGguf.
  const GgufFile& gguf() const;

  // Texts of a Hugging Face folder; empty where the file is absent.
  const std::string& config_json() const { return config_json_; }
  const std::string& tokenizer_json() const { return tokenizer_json_; }
  const std::string& tokenizer_config_json() const { return tokenizer_config_json_; }
  const std::string& generation_config_json() const { return generation_config_json_; }
  const std::string& chat_template_text() const { return chat_template_text_; }

 private:
  Checkpoint() = default;
  void open_folder();

  std::string path_;
  std::optional<GgufFile> gguf_;
  std::vector<SafetensorsFile> shards_;
  std::vector<StoredTensor> tensors_;
  std::unordered_map<std::string_view, std::size_t> index_;
  std::string config_json_;
  std::string tokenizer_json_;
  std::string tokenizer_config_json_;
  std::string generation_config_json_;
  std::string chat_template_text_;
};

}  // namespace perpend
