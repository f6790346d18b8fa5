#include "perpend/models/loaded_model.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <future>

#include "perpend/core/error.h"
#include "perpend/models/llama.h"

namespace perpend {

LoadedModel::LoadedModel(const std::string& path, WeightForm form, Context& context,
                         const ModelChanges& changes)
    : checkpoint_(Checkpoint::open(path)) {
  const ModelConfig config = changed(read_model_config(checkpoint_), changes);
  // A vocabulary takes one thread as long as the weights take all others.
  auto tokenizer = std::async(std::launch::async, [this] { return read_tokenizer(checkpoint_); });
  const WeightReader weights(checkpoint_, config);
  network_ = std::make_unique<Llama>(config, weights, form, context);
  tokenizer_ = tokenizer.get();
  chat_template_ = read_chat_template(checkpoint_);
  stop_tokens_ = read_stop_tokens(checkpoint_, *tokenizer_);
}

bool LoadedModel::is_stop_token(std::int32_t token) const {
  return std::find(stop_tokens_.begin(), stop_tokens_.end(), token) != stop_tokens_.end();
}

std::vector<std::int32_t> LoadedModel::encode_text(const std::string& text) const {
  return tokenizer_->encode(text, {.add_special_tokens = true, .parse_special = false});
}

std::vector<std::int32_t> LoadedModel::encode_chat(const std::vector<ChatMessage>& messages) const {
  if (chat_template_ == nullptr) {
    throw Unsupported(concat(checkpoint_.path(), ": the model has no chat template; run it raw"));
  }
  return encode_conversation(*chat_template_, *tokenizer_, messages);
}

namespace {

namespace fs = std::filesystem;

// Where ./run keeps models: the user's cache folder, or PERPEND_HOME.
fs::path model_home() {
  if (const char* home = std::getenv("PERPEND_HOME")) return fs::path(home) / "models";
  if (const char* cache = std::getenv("XDG_CACHE_HOME")) return fs::path(cache) / "perpend/models";
  const char* user = std::getenv("HOME");
  return fs::path(user == nullptr ? "." : user) / ".cache/perpend/models";
}

}  // namespace

std::string resolve_model_path(const std::string& name) {
  std::error_code error;
  if (fs::exists(name, error)) return name;
  if (name == "smollm2-135m-instruct") {
    const fs::path path =
        model_home() / "smollm2-135m-instruct-q4_1" / "SmolLM2-135M-Instruct.Q4_1.gguf";
    if (fs::exists(path, error)) return path.string();
    throw IoError(concat("model '", name, "': not fetched yet (", path.string(),
                         " is missing); ./run generate fetches it"));
  }
  throw IoError(concat("model '", name,
                       "': no such file or folder, and no model of that name; "
                       "known by name: smollm2-135m-instruct"));
}

}  // namespace perpend
