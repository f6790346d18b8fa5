#include "perpend/models/convert/hugging_face_folder.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <system_error>

#include "perpend/core/error.h"
#include "perpend/io/atomic_file.h"
#include "perpend/models/convert/config_json.h"
#include "perpend/models/convert/text_conversion.h"

namespace perpend {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "config.json";
constexpr const char* kGenerationConfig = "generation_config.json";
constexpr const char* kTokenizer = "tokenizer.json";
constexpr const char* kTokenizerConfig = "tokenizer_config.json";
// The text side of a folder, with the older forms that stand beside tokenizer.json.
constexpr std::array<std::string_view, 9> kTextFiles = {
    kGenerationConfig,     kTokenizer,        kTokenizerConfig,
    "chat_template.jinja", "tokenizer.model", "added_tokens.json",
    "vocab.json",          "merges.txt",      "special_tokens_map.json"};

void write_file(const std::string& folder, std::string_view name, const std::string& text) {
  if (text.empty()) return;
  AtomicFile file((fs::path(folder) / name).string());
  file.write(text);
  file.commit();
}

// The widest format that a weight is stored in, so that reading all in it loses nothing.
BlockFormat widest_format(const TensorPlan& plan) {
  const auto has = [&](BlockFormat format) {
    return std::any_of(plan.steps.begin(), plan.steps.end(), [&](const TensorStep& step) {
      return step.target.shape.size() > 1 && step.target.format == format;
    });
  };
  const bool mixed = has(BlockFormat::kF16) && has(BlockFormat::kBF16);
  if (mixed || has(BlockFormat::kF32)) return BlockFormat::kF32;
  return plan.main_format();
}

void copy_text_files(const Checkpoint& source, const std::string& folder) {
  for (const std::string_view name : kTextFiles) {
    const fs::path from = fs::path(source.path()) / name;
    std::error_code error;
    if (!fs::exists(from, error)) continue;
    fs::copy_file(from, fs::path(folder) / name, error);
    if (error) throw IoError(concat(from.string(), ": ", error.message()));
  }
}

}  // namespace

bool is_model_file(std::string_view name) {
  return name == kConfig || name.ends_with(".safetensors") ||
         name == "model.safetensors.index.json" ||
         std::find(kTextFiles.begin(), kTextFiles.end(), name) != kTextFiles.end();
}

void write_text_files(const Checkpoint& source, const ModelConfig& config, const TensorPlan& plan,
                      const ModelChanges& changes, const std::string& folder,
                      std::vector<std::string>& notes) {
  const BlockFormat format = widest_format(plan);
  if (source.kind() == Checkpoint::Kind::kHuggingFace) {
    write_file(folder, kConfig, changed_config_json(source, config, changes, format));
    copy_text_files(source, folder);
    return;
  }
  const auto tokenizer = read_tokenizer(source);
  const SpecialTokenIds ids = read_special_token_ids(source, *tokenizer);
  const TokenizerFiles files = write_tokenizer_files(source, *tokenizer, ids, notes);
  write_file(folder, kConfig, write_config_json(source, config, ids, format));
  write_file(folder, kGenerationConfig, write_generation_config_json(ids));
  write_file(folder, kTokenizer, files.tokenizer_json);
  write_file(folder, kTokenizerConfig, files.tokenizer_config_json);
}

}  // namespace perpend
