#pragma once

#include <memory>
#include <string>
#include <vector>

#include "perpend/io/checkpoint.h"
#include "perpend/io/template/chat_template.h"
#include "perpend/io/tokenizer/tokenizer.h"

namespace perpend {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

// The text side of a checkpoint. Each throws IoError naming file and field for what is malformed.
std::unique_ptr<Tokenizer> read_tokenizer(const Checkpoint& checkpoint);
// Null when the checkpoint has none.
std::unique_ptr<ChatTemplate> read_chat_template(const Checkpoint& checkpoint);
// Ids that end an answer: those the checkpoint names, and the usual ends of a turn.
std::vector<std::int32_t> read_stop_tokens(const Checkpoint& checkpoint,
                                           const Tokenizer& tokenizer);

// Tokens of `messages` with the turn of the assistant opened.
std::vector<std::int32_t> encode_conversation(const ChatTemplate& chat_template,
                                              const Tokenizer& tokenizer,
                                              const std::vector<ChatMessage>& messages);

}  // namespace perpend
