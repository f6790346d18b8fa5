#pragma once

#include <cstdint>
#include <memory>
#include <optional>
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
// Empty when the checkpoint has none; of several the default one.
std::string read_chat_template_text(const Checkpoint& checkpoint);
// Null when the checkpoint has none.
std::unique_ptr<ChatTemplate> read_chat_template(const Checkpoint& checkpoint);

// Tokens that the checkpoint itself gives a meaning; those that the vocabulary lacks are left out.
struct SpecialTokenIds {
  std::optional<std::int32_t> bos;
  std::optional<std::int32_t> eos;
  std::optional<std::int32_t> unk;
  std::optional<std::int32_t> pad;
  std::vector<std::int32_t> other_ends;  // of an answer, beside eos
};
SpecialTokenIds read_special_token_ids(const Checkpoint& checkpoint, const Tokenizer& tokenizer);
// Whether a special token is one of the ends of a turn or of a text that instruction-tuned
// checkpoints use beside their eos token, whatever the checkpoint says.
bool is_usual_end(const Tokenizer& tokenizer, std::int32_t id);
// Ids that end an answer: those the checkpoint names, and the usual ends of a turn.
std::vector<std::int32_t> read_stop_tokens(const Checkpoint& checkpoint,
                                           const Tokenizer& tokenizer);

// What stands around the one message of a user, with the turn of the assistant opened behind it.
struct ChatFrame {
  std::vector<std::int32_t> before;
  std::vector<std::int32_t> after;
};
// Throws Unsupported for a template that rewrites messages.
ChatFrame read_chat_frame(const ChatTemplate& chat_template, const Tokenizer& tokenizer);

// The same without a template, too: then only the token that begins a text, if any, and the end of
// a line.
ChatFrame chat_frame_of(const ChatTemplate* chat_template, const Tokenizer& tokenizer);

// Tokens of `messages` with the turn of the assistant opened.
std::vector<std::int32_t> encode_conversation(const ChatTemplate& chat_template,
                                              const Tokenizer& tokenizer,
                                              const std::vector<ChatMessage>& messages);

}  // namespace perpend
