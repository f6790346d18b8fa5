#include "perpend/cli/prompt_form.h"

#include "perpend/core/error.h"

namespace perpend {

std::vector<std::int32_t> PromptForm::encode(const LoadedModel& model,
                                             const std::string& text) const {
  check(!(chat && raw), "generate: --chat and --raw exclude each other");
  if (raw || (!chat && !model.has_chat_template())) {
    check(system.empty(), "generate: --system needs the chat form, which this run does not use");
    return model.encode_text(text);
  }
  std::vector<ChatMessage> messages;
  if (!system.empty()) messages.push_back({"system", system});
  messages.push_back({"user", text});
  return model.encode_chat(messages);
}

}  // namespace perpend
