#include "perpend/models/loaded_model.h"

#include <algorithm>
#include <filesystem>
#include <future>

#include "perpend/core/error.h"
#include "perpend/io/home_folder.h"
#include "perpend/models/llama.h"

namespace perpend {
namespace {

std::optional<DiffusionConfig> diffusion_of(const ModelConfig& config, const Tokenizer& tokenizer,
                                            const std::string& path) {
  if (!config.diffusion) return std::nullopt;
  DiffusionConfig diffusion = *config.diffusion;
  if (!diffusion.mask_token.empty()) {
    const auto id = tokenizer.token_to_id(diffusion.mask_token);
    diffusion.mask_token_id = id.value_or(diffusion.mask_token_id);
  }
  if (diffusion.mask_token_id >= config.vocab_size) {
    throw IoError(concat(path, ": mask token: expected an id below ", config.vocab_size,
                         " (vocabulary), found ", diffusion.mask_token_id));
  }
  diffusion.mask_token = tokenizer.id_to_token(diffusion.mask_token_id);
  return diffusion;
}

// Text that spells the mask token, as tokens that are none: its first character apart from the
// rest.
std::vector<std::int32_t> spelled_out(const std::string& text, std::int32_t mask_token_id,
                                      const Tokenizer& tokenizer) {
  constexpr EncodeOptions kPlain = {.add_special_tokens = false, .parse_special = false};
  std::vector<std::int32_t> ids;
  for (const std::string& part :
       {text.substr(0, 1), text.substr(std::min<std::size_t>(1, text.size()))}) {
    const auto more = tokenizer.encode(part, kPlain);
    ids.insert(ids.end(), more.begin(), more.end());
  }
  check(std::find(ids.begin(), ids.end(), mask_token_id) == ids.end(),
        concat("prompt: it spells the mask token '", text,
               "', for which the vocabulary has no "
               "other tokens"));
  return ids;
}

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
  std::optional<PeftAdapter> adapter;
  ModelChanges changes = options.changes;
  if (!options.adapter.empty()) {
    adapter = PeftAdapter::open(options.adapter);
    if (!changes.diffusion) changes.diffusion = adapter->diffusion();
  }
  ModelConfig config = changed(read_model_config(checkpoint_), changes);
  if (adapter) {
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
  diffusion_ = diffusion_of(config, *tokenizer_, path);
}

bool LoadedModel::is_stop_token(std::int32_t token) const {
  return std::find(stop_tokens_.begin(), stop_tokens_.end(), token) != stop_tokens_.end();
}

std::vector<std::int32_t> LoadedModel::encode_text(const std::string& text) const {
  return without_mask_token(
      tokenizer_->encode(text, {.add_special_tokens = true, .parse_special = false}));
}

std::vector<std::int32_t> LoadedModel::encode_chat(const std::vector<ChatMessage>& messages) const {
  if (chat_template_ == nullptr) {
    throw Unsupported(concat(checkpoint_.path(), ": the model has no chat template; run it raw"));
  }
  return without_mask_token(encode_conversation(*chat_template_, *tokenizer_, messages));
}

std::vector<std::int32_t> LoadedModel::without_mask_token(std::vector<std::int32_t> ids) const {
  if (!diffusion_) return ids;
  const std::int32_t mask = diffusion_->mask_token_id;
  if (std::find(ids.begin(), ids.end(), mask) == ids.end()) return ids;
  const std::vector<std::int32_t> instead = spelled_out(diffusion_->mask_token, mask, *tokenizer_);
  std::vector<std::int32_t> clean;
  for (const std::int32_t id : ids) {
    if (id == mask) {
      clean.insert(clean.end(), instead.begin(), instead.end());
    } else {
      clean.push_back(id);
    }
  }
  return clean;
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
