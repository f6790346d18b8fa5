#include "perpend/models/text_side.h"

#include <algorithm>
#include <array>
#include <optional>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/json_text.h"

namespace perpend {
namespace {

using nlohmann::json;

// tokenizer_config.json of a Hugging Face folder; an empty object when there is none.
json tokenizer_config(const Checkpoint& checkpoint) {
  if (checkpoint.tokenizer_config_json().empty()) return json::object();
  return parse_json_object(checkpoint.tokenizer_config_json(),
                           checkpoint.path() + "/tokenizer_config.json");
}

// A token in these files is a string, or an object with its text under "content".
std::string token_text(const json& object, const char* key) {
  if (!object.contains(key)) return "";
  const json& token = object[key];
  if (token.is_string()) return token.get<std::string>();
  if (token.is_object() && token.contains("content") && token["content"].is_string()) {
    return token["content"].get<std::string>();
  }
  return "";
}

std::string chat_template_text(const json& config, const std::string& path) {
  if (!config.contains("chat_template") || config["chat_template"].is_null()) return "";
  const json& value = config["chat_template"];
  if (value.is_string()) return value.get<std::string>();
  // Several templates by name: the default one is for conversations.
  if (value.is_array()) {
    for (const json& entry : value) {
      if (entry.is_object() && entry.value("name", "") == "default") {
        return entry.value("template", "");
      }
    }
  }
  throw IoError(concat(path, "/tokenizer_config.json: chat_template: expected a text"));
}

void add_ids(const json& object, std::vector<std::int32_t>& ids) {
  if (!object.contains("eos_token_id")) return;
  const json& value = object["eos_token_id"];
  if (value.is_number_integer()) ids.push_back(value.get<std::int32_t>());
  if (!value.is_array()) return;
  for (const json& id : value) {
    if (id.is_number_integer()) ids.push_back(id.get<std::int32_t>());
  }
}

// Id of the token that tokenizer_config.json names under `key`.
std::optional<std::int32_t> named_id(const Tokenizer& tokenizer, const json& config,
                                     const char* key) {
  const std::string text = token_text(config, key);
  return text.empty() ? std::nullopt : tokenizer.token_to_id(text);
}

}  // namespace

std::unique_ptr<Tokenizer> read_tokenizer(const Checkpoint& checkpoint) {
  if (checkpoint.kind() == Checkpoint::Kind::kGguf) {
    return std::make_unique<Tokenizer>(load_gguf_tokenizer(checkpoint.gguf()));
  }
  const std::string path = checkpoint.path() + "/tokenizer.json";
  if (checkpoint.tokenizer_json().empty()) {
    throw IoError(concat(path, ": the file is missing; perpend reads tokenizer.json"));
  }
  auto tokenizer =
      std::make_unique<Tokenizer>(load_tokenizer_json(checkpoint.tokenizer_json(), path));
  const json config = tokenizer_config(checkpoint);
  tokenizer->set_special_ids(named_id(*tokenizer, config, "bos_token"),
                             named_id(*tokenizer, config, "eos_token"));
  return tokenizer;
}

std::unique_ptr<ChatTemplate> read_chat_template(const Checkpoint& checkpoint) {
  std::string text;
  if (checkpoint.kind() == Checkpoint::Kind::kGguf) {
    text = std::string(checkpoint.gguf().get_string("tokenizer.chat_template").value_or(""));
  } else {
    text = checkpoint.chat_template_text();
    if (text.empty()) text = chat_template_text(tokenizer_config(checkpoint), checkpoint.path());
  }
  if (text.empty()) return nullptr;
  return std::make_unique<ChatTemplate>(text, checkpoint.path() + ": chat template");
}

std::vector<std::int32_t> read_stop_tokens(const Checkpoint& checkpoint,
                                           const Tokenizer& tokenizer) {
  std::vector<std::int32_t> ids;
  if (tokenizer.eos_id()) ids.push_back(*tokenizer.eos_id());
  if (checkpoint.kind() == Checkpoint::Kind::kHuggingFace) {
    add_ids(parse_json_object(checkpoint.config_json(), checkpoint.path() + "/config.json"), ids);
    if (!checkpoint.generation_config_json().empty()) {
      add_ids(parse_json_object(checkpoint.generation_config_json(),
                                checkpoint.path() + "/generation_config.json"),
              ids);
    }
  }
  // Ends of a turn or of a text that instruction-tuned checkpoints use beside their eos token.
  for (std::string_view text : {"<|im_end|>", "<|eot_id|>", "<|endoftext|>", "<|end_of_text|>"}) {
    const std::optional<std::int32_t> id = tokenizer.token_to_id(text);
    if (id && tokenizer.is_special(*id)) ids.push_back(*id);
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

namespace {

constexpr EncodeOptions kTemplateText = {.add_special_tokens = false, .parse_special = true};
constexpr EncodeOptions kUserText = {.add_special_tokens = false, .parse_special = false};

bool spells_special_token(const Tokenizer& tokenizer, const std::string& text) {
  const auto ids = tokenizer.encode(text, kTemplateText);
  return std::any_of(ids.begin(), ids.end(),
                     [&](std::int32_t id) { return tokenizer.is_special(id); });
}

// Templates may trim a message, but keep the rest as it is.
std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\n\r\v\f";
  text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
  return text.substr(0, text.find_last_not_of(kBlanks) + 1);
}

// Tokens of a rendered conversation. Special tokens of the template count; where a message spells
// one, it is cut out and encoded as ordinary text.
std::vector<std::int32_t> encode_rendered(const Tokenizer& tokenizer, std::string_view rendered,
                                          const std::vector<ChatMessage>& messages) {
  std::vector<std::int32_t> ids;
  const auto append = [&](std::string_view text, EncodeOptions options) {
    const auto more = tokenizer.encode(text, options);
    ids.insert(ids.end(), more.begin(), more.end());
  };
  for (const ChatMessage& message : messages) {
    if (!spells_special_token(tokenizer, message.content)) continue;
    const std::string_view content = trimmed(message.content);
    const std::size_t found = rendered.find(content);
    if (found == std::string_view::npos) {
      throw InvalidArgument(concat("chat: a message of ", message.role,
                                   " spells a special token, and the chat template rewrites it"));
    }
    append(rendered.substr(0, found), kTemplateText);
    append(content, kUserText);
    rendered.remove_prefix(found + content.size());
  }
  append(rendered, kTemplateText);
  return ids;
}

}  // namespace

std::vector<std::int32_t> encode_conversation(const ChatTemplate& chat_template,
                                              const Tokenizer& tokenizer,
                                              const std::vector<ChatMessage>& messages) {
  const auto text_of = [&](const std::optional<std::int32_t>& id) {
    return id ? std::string(tokenizer.id_to_token(*id)) : std::string();
  };
  nlohmann::ordered_json variables{{"messages", nlohmann::ordered_json::array()},
                                   {"add_generation_prompt", true},
                                   {"bos_token", text_of(tokenizer.bos_id())},
                                   {"eos_token", text_of(tokenizer.eos_id())}};
  for (const ChatMessage& message : messages) {
    variables["messages"].push_back({{"role", message.role}, {"content", message.content}});
  }
  return encode_rendered(tokenizer, chat_template.render(variables), messages);
}

}  // namespace perpend
