#include "perpend/models/text_side.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <optional>
#include <span>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/json_text.h"
#include "perpend/io/text_file.h"
#include "perpend/io/tokenizer/sentencepiece_model.h"
#include "perpend/models/config_reader.h"

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

// The ids under `key`, a number or a list of them, of config.json and generation_config.json.
std::vector<std::int32_t> config_ids(const Checkpoint& checkpoint, const char* key) {
  std::vector<std::int32_t> ids;
  const auto add = [&](const json& value) {
    if (value.is_number_integer()) ids.push_back(value.get<std::int32_t>());
  };
  const auto add_all = [&](const std::string& text, const char* file) {
    if (text.empty()) return;
    const json object = parse_json_object(text, concat(checkpoint.path(), "/", file));
    if (!object.contains(key)) return;
    add(object[key]);
    if (!object[key].is_array()) return;
    for (const json& id : object[key]) add(id);
  };
  add_all(checkpoint.config_json(), "config.json");
  add_all(checkpoint.generation_config_json(), "generation_config.json");
  return ids;
}

// Id of the token that tokenizer_config.json names under `key`.
std::optional<std::int32_t> named_id(const Tokenizer& tokenizer, const json& config,
                                     const char* key) {
  const std::string text = token_text(config, key);
  return text.empty() ? std::nullopt : tokenizer.token_to_id(text);
}

// A slow tokenizer of transformers: what the model's pieces are beyond their file, and tokens
// behind them, stand in tokenizer_config.json.
Tokenizer read_sentencepiece(const std::string& bytes, const std::string& path,
                             const json& config) {
  SentencePieceModel model(std::as_bytes(std::span(bytes)), path);
  std::map<std::int32_t, const json*> added;  // by id
  const json tokens = config.value("added_tokens_decoder", json::object());
  for (const auto& [key, token] : tokens.items()) {
    std::int32_t id = -1;
    std::from_chars(key.data(), key.data() + key.size(), id);
    if (token.is_object() && token.contains("content")) added[id] = &token;
  }
  const std::string where = path + ": tokenizer_config.json";
  for (const auto& [id, token] : added) {
    model.set_token(id, token_text(*token, "content"),
                    ConfigReader(where, *token).flag_or("special", false));
  }
  const ConfigReader reader(where, config);
  return model.tokenizer(reader.flag_or("add_bos_token", true),
                         reader.flag_or("add_eos_token", false));
}

Tokenizer read_hugging_face_tokenizer(const Checkpoint& checkpoint, const json& config) {
  const std::string path = checkpoint.path() + "/tokenizer.json";
  if (!checkpoint.tokenizer_json().empty()) {
    return load_tokenizer_json(checkpoint.tokenizer_json(), path);
  }
  const std::string pieces = checkpoint.path() + "/tokenizer.model";
  if (const auto bytes = read_text_file_if_any(pieces)) {
    return read_sentencepiece(*bytes, pieces, config);
  }
  throw IoError(concat(path,
                       ": the file is missing; perpend reads tokenizer.json, or a "
                       "tokenizer.model of SentencePiece"));
}

}  // namespace

std::unique_ptr<Tokenizer> read_tokenizer(const Checkpoint& checkpoint) {
  if (checkpoint.kind() == Checkpoint::Kind::kGguf) {
    return std::make_unique<Tokenizer>(load_gguf_tokenizer(checkpoint.gguf()));
  }
  const json config = tokenizer_config(checkpoint);
  auto tokenizer = std::make_unique<Tokenizer>(read_hugging_face_tokenizer(checkpoint, config));
  tokenizer->set_special_ids(named_id(*tokenizer, config, "bos_token"),
                             named_id(*tokenizer, config, "eos_token"));
  return tokenizer;
}

std::string read_chat_template_text(const Checkpoint& checkpoint) {
  if (checkpoint.kind() == Checkpoint::Kind::kGguf) {
    return std::string(checkpoint.gguf().get_string("tokenizer.chat_template").value_or(""));
  }
  if (!checkpoint.chat_template_text().empty()) return checkpoint.chat_template_text();
  return chat_template_text(tokenizer_config(checkpoint), checkpoint.path());
}

std::unique_ptr<ChatTemplate> read_chat_template(const Checkpoint& checkpoint) {
  const std::string text = read_chat_template_text(checkpoint);
  if (text.empty()) return nullptr;
  return std::make_unique<ChatTemplate>(text, checkpoint.path() + ": chat template");
}

namespace {

SpecialTokenIds read_gguf_ids(const GgufFile& file, const Tokenizer& tokenizer) {
  const auto id_of = [&](const char* key) -> std::optional<std::int32_t> {
    const auto id = file.get_u64(concat("tokenizer.ggml.", key, "_token_id"));
    if (!id || *id >= tokenizer.vocab_size()) return std::nullopt;
    return static_cast<std::int32_t>(*id);
  };
  SpecialTokenIds ids{.bos = tokenizer.bos_id(),
                      .eos = tokenizer.eos_id(),
                      .unk = id_of("unknown"),
                      .pad = id_of("padding"),
                      .other_ends = {}};
  for (const char* key : {"eot", "eom"}) {
    const auto id = id_of(key);
    if (id && id != ids.eos) ids.other_ends.push_back(*id);
  }
  return ids;
}

SpecialTokenIds read_hugging_face_ids(const Checkpoint& checkpoint, const Tokenizer& tokenizer) {
  const json config = tokenizer_config(checkpoint);
  const auto id_of = [&](const char* name) {
    const auto id = named_id(tokenizer, config, concat(name, "_token").c_str());
    if (id) return id;
    const auto listed = config_ids(checkpoint, concat(name, "_token_id").c_str());
    const bool known = !listed.empty() && !tokenizer.id_to_token(listed.front()).empty();
    return known ? std::optional(listed.front()) : std::nullopt;
  };
  SpecialTokenIds ids{.bos = id_of("bos"),
                      .eos = id_of("eos"),
                      .unk = id_of("unk"),
                      .pad = id_of("pad"),
                      .other_ends = {}};
  for (const std::int32_t id : config_ids(checkpoint, "eos_token_id")) {
    const auto end = ids.other_ends.end();
    const bool known = std::find(ids.other_ends.begin(), end, id) != end || id == ids.eos;
    if (!known && !tokenizer.id_to_token(id).empty()) ids.other_ends.push_back(id);
  }
  return ids;
}

}  // namespace

SpecialTokenIds read_special_token_ids(const Checkpoint& checkpoint, const Tokenizer& tokenizer) {
  return checkpoint.kind() == Checkpoint::Kind::kGguf
             ? read_gguf_ids(checkpoint.gguf(), tokenizer)
             : read_hugging_face_ids(checkpoint, tokenizer);
}

namespace {

constexpr std::array<std::string_view, 4> kUsualEnds = {"<|im_end|>", "<|eot_id|>", "<|endoftext|>",
                                                        "<|end_of_text|>"};

}  // namespace

bool is_usual_end(const Tokenizer& tokenizer, std::int32_t id) {
  const auto* end = kUsualEnds.end();
  return tokenizer.is_special(id) &&
         std::find(kUsualEnds.begin(), end, tokenizer.id_to_token(id)) != end;
}

std::vector<std::int32_t> read_stop_tokens(const Checkpoint& checkpoint,
                                           const Tokenizer& tokenizer) {
  const SpecialTokenIds special = read_special_token_ids(checkpoint, tokenizer);
  std::vector<std::int32_t> ids = special.other_ends;
  if (special.eos) ids.push_back(*special.eos);
  for (const std::string_view text : kUsualEnds) {
    const std::optional<std::int32_t> id = tokenizer.token_to_id(text);
    if (id && is_usual_end(tokenizer, *id)) ids.push_back(*id);
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

std::string rendered(const ChatTemplate& chat_template, const Tokenizer& tokenizer,
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
  return chat_template.render(variables);
}

}  // namespace

ChatFrame read_chat_frame(const ChatTemplate& chat_template, const Tokenizer& tokenizer) {
  const std::string marker = "\xEE\x80\x80";  // U+E000, which means nothing to any template
  const std::string text = rendered(chat_template, tokenizer, {{"user", marker}});
  const std::size_t found = text.find(marker);
  if (found == std::string::npos || text.find(marker, found + 1) != std::string::npos) {
    throw Unsupported("chat: the chat template does not show a message once, as it is");
  }
  return {tokenizer.encode(std::string_view(text).substr(0, found), kTemplateText),
          tokenizer.encode(std::string_view(text).substr(found + marker.size()), kTemplateText)};
}

ChatFrame chat_frame_of(const ChatTemplate* chat_template, const Tokenizer& tokenizer) {
  if (chat_template != nullptr) return read_chat_frame(*chat_template, tokenizer);
  ChatFrame frame;
  if (const auto bos = tokenizer.bos_id()) frame.before.push_back(*bos);
  frame.after = tokenizer.encode("\n", {.add_special_tokens = false, .parse_special = false});
  return frame;
}

std::vector<std::int32_t> encode_conversation(const ChatTemplate& chat_template,
                                              const Tokenizer& tokenizer,
                                              const std::vector<ChatMessage>& messages) {
  return encode_rendered(tokenizer, rendered(chat_template, tokenizer, messages), messages);
}

}  // namespace perpend
