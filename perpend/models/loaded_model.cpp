#include "perpend/models/loaded_model.h"

#include <algorithm>
#include <filesystem>
#include <future>

#include "perpend/core/error.h"
#include "perpend/io/home_folder.h"
#include "perpend/models/llama.h"

namespace perpend {
namespace {

ModelConfig ranking_part(ModelConfig config) {
  config.blockrank = blockrank_config(config);
  config.num_layers = config.blockrank->layer + 1;
  config.has_head = false;
  return config;
}

}  // namespace

LoadedModel::LoadedModel(const std::string& path, WeightForm form, Context& context,
                         const LoadOptions& options)
    : checkpoint_(Checkpoint::open(path)) {
  ModelConfig config = changed(read_model_config(checkpoint_), options.changes);
  std::optional<PeftAdapter> adapter;
  if (!options.adapter.empty()) {
    adapter = PeftAdapter::open(options.adapter);
    adapter->check_all_known(layer_matrices(config));
    if (const auto rank = adapter->blockrank(config)) config.blockrank = rank;
  }
  if (options.ranks_only) config = ranking_part(std::move(config));
  // A vocabulary takes one thread as long as the weights take all others.
  auto tokenizer = std::async(std::launch::async, [this] { return read_tokenizer(checkpoint_); });
  const WeightReader weights(checkpoint_, config, adapter ? &*adapter : nullptr);
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

ChatFrame LoadedModel::chat_frame() const {
  return chat_frame_of(chat_template_.get(), *tokenizer_);
}

std::string resolve_model_path(const std::string& name) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (fs::exists(name, error)) return name;
  if (name == "smollm2-135m-instruct") {
    const fs::path path =
        home_folder() / "models" / "smollm2-135m-instruct-q4_1" / "SmolLM2-135M-Instruct.Q4_1.gguf";
    if (fs::exists(path, error)) return path.string();
    throw IoError(concat("model '", name, "': not fetched yet (", path.string(),
                         " is missing); ./run generate fetches it"));
  }
  throw IoError(concat("model '", name,
                       "': no such file or folder, and no model of that name; "
                       "known by name: smollm2-135m-instruct"));
}

}  // namespace perpend
