#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "perpend/io/checkpoint.h"
#include "perpend/models/language_model.h"
#include "perpend/models/text_side.h"
#include "perpend/nn/linear.h"

namespace perpend {

// What is loaded of a checkpoint, and how.
struct LoadOptions {
  ModelChanges changes = {};
  std::string adapter =
      {};  // folder of a PEFT adapter that is merged into the weights; empty: none
  // The layers up to the one whose attention ranks (blockrank_config()), no head: no logits.
  bool ranks_only = false;
};

// A network with the text side of its checkpoint: tokenizer, chat template, tokens that end an
// answer.
class LoadedModel {
 public:
  // Opens `path` (a .gguf file or a Hugging Face folder) and packs its weights. Throws IoError and
  // Unsupported, naming file and field or tensor, and InvalidArgument for changes that do not fit.
  LoadedModel(const std::string& path, WeightForm form, Context& context,
              const LoadOptions& options = {});

  const LanguageModel& network() const { return *network_; }
  const ModelConfig& config() const { return network_->config(); }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const Checkpoint& checkpoint() const { return checkpoint_; }
  bool has_chat_template() const { return chat_template_ != nullptr; }
  bool is_stop_token(std::int32_t token) const;
  // config().diffusion with the mask token that the vocabulary names.
  const std::optional<DiffusionConfig>& diffusion() const { return diffusion_; }

  // Tokens of plain text, with the tokens that the model expects before it. Special tokens and the
  // mask token written out in `text` are text.
  std::vector<std::int32_t> encode_text(const std::string& text) const;
  // Tokens of a conversation with the turn of the assistant opened. Throws Unsupported when the
  // model has no chat template.
  std::vector<std::int32_t> encode_chat(const std::vector<ChatMessage>& messages) const;
  // What stands around a message; without a chat template the token that begins a text, if any.
  ChatFrame chat_frame() const;

 private:
  // A token that a text spells must not be taken for one that is to be filled.
  std::vector<std::int32_t> without_mask_token(std::vector<std::int32_t> ids) const;

  Checkpoint checkpoint_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> chat_template_;
  std::vector<std::int32_t> stop_tokens_;
  std::optional<DiffusionConfig> diffusion_;
  std::unique_ptr<LanguageModel> network_;
};

// The path that `name` means: a file or folder as it is, or the name of a model that was fetched
// (smollm2-135m-instruct). Throws IoError naming both.
std::string resolve_model_path(const std::string& name);

}  // namespace perpend
