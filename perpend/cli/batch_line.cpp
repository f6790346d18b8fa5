#include "perpend/cli/batch_line.h"

#include <algorithm>
#include <iostream>
#include <limits>
#include <set>
#include <type_traits>
#include <utility>

#include "perpend/cli/prompt_source.h"
#include "perpend/core/error.h"
#include "perpend/io/json_text.h"
#include "perpend/io/text_file.h"
#include "perpend/mask/layer_masks.h"

namespace perpend {
namespace {

using nlohmann::json;

// An object whose keys are read one by one.
class LineObject {
 public:
  LineObject(std::string_view line, std::string where)
      : where_(std::move(where)), object_(parse_json_object(line, where_)) {}

  // Null where it is missing.
  const json* find(const std::string& key) {
    known_.insert(key);
    const auto found = object_.find(key);
    return found == object_.end() ? nullptr : &*found;
  }

  // Each keeps `value` where the key is missing.
  void read(const std::string& key, std::string& value) {
    const json* found = find(key);
    if (found == nullptr) return;
    if (!found->is_string()) fail(key, "a text", *found);
    value = found->get<std::string>();
  }
  void read(const std::string& key, bool& value) {
    const json* found = find(key);
    if (found == nullptr) return;
    if (!found->is_boolean()) fail(key, "true or false", *found);
    value = found->get<bool>();
  }
  void read(const std::string& key, float& value) {
    const json* found = find(key);
    if (found == nullptr) return;
    if (!found->is_number()) fail(key, "a number", *found);
    value = found->get<float>();
  }
  template <class T>
  requires std::is_integral_v<T>
  void read(const std::string& key, T& value) {
    if (const json* found = find(key)) value = integer<T>(key, *found);
  }
  void read(const std::string& key, std::vector<std::string>& value) {
    const json* found = find(key);
    if (found == nullptr) return;
    if (found->is_string()) {
      value = {found->get<std::string>()};
      return;
    }
    value.clear();
    for (const json& text : array(key, *found, "a text or several")) {
      if (!text.is_string()) fail(key, "a text or several", text);
      value.push_back(text.get<std::string>());
    }
  }

  template <class T>
  T integer(const std::string& key, const json& value) const {
    const auto fits = [&] {
      if (value.is_number_unsigned()) {
        return value.get<std::uint64_t>() <=
               static_cast<std::uint64_t>(std::numeric_limits<T>::max());
      }
      return value.is_number_integer() && std::is_signed_v<T> &&
             value.get<std::int64_t>() >= static_cast<std::int64_t>(std::numeric_limits<T>::min());
    };
    if (!fits()) {
      fail(key,
           concat("an integer from ", std::numeric_limits<T>::min(), " to ",
                  std::numeric_limits<T>::max()),
           value);
    }
    return value.get<T>();
  }

  const json& array(const std::string& key, const json& value, std::string_view expected) const {
    if (!value.is_array() || value.empty()) fail(key, expected, value);
    return value;
  }

  [[noreturn]] void fail(const std::string& key, std::string_view expected,
                         const json& value) const {
    const std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
    throw IoError(
        concat(where_, ": key '", key, "': expected ", expected, ", found ", text.substr(0, 100)));
  }

  // Throws for a key that nobody asked for.
  void check_all_read() const {
    for (const auto& [key, value] : object_.items()) {
      if (known_.contains(key)) continue;
      std::string list;
      for (const std::string& name : known_) list += (list.empty() ? "" : ", ") + name;
      throw IoError(concat(where_, ": unknown key '", key.substr(0, 100), "'; known are ", list));
    }
  }

 private:
  std::string where_;
  json object_;
  std::set<std::string> known_;
};

std::vector<ChatMessage> messages_of(const LineObject& object, const json& list) {
  constexpr std::string_view kExpected = "messages of a role and a content";
  std::vector<ChatMessage> messages;
  for (const json& message : object.array("messages", list, kExpected)) {
    const bool fits = message.is_object() && message.size() == 2 && message.contains("role") &&
                      message.contains("content") && message["role"].is_string() &&
                      message["content"].is_string();
    if (!fits) object.fail("messages", kExpected, message);
    messages.push_back({message["role"].get<std::string>(), message["content"].get<std::string>()});
  }
  return messages;
}

std::vector<std::int32_t> prompt_of(LineObject& object, const std::string& where,
                                    const LoadedModel& model, PromptForm form) {
  const json* prompt = object.find("prompt");
  const json* messages = object.find("messages");
  const json* ids = object.find("prompt_ids");
  object.read("system", form.system);
  object.read("raw", form.raw);
  if ((prompt != nullptr) + (messages != nullptr) + (ids != nullptr) != 1) {
    throw IoError(concat(where, ": expected one of the keys prompt, messages and prompt_ids"));
  }
  if (prompt == nullptr) {
    for (const char* key : {"system", "raw"}) {
      if (const json* given = object.find(key)) object.fail(key, "that a prompt is given", *given);
    }
  }
  if (messages != nullptr) return model.encode_chat(messages_of(object, *messages));
  if (ids != nullptr) {
    std::vector<std::int32_t> tokens;
    for (const json& id : object.array("prompt_ids", *ids, "tokens")) {
      tokens.push_back(object.integer<std::int32_t>("prompt_ids", id));
    }
    return tokens;
  }
  std::string text;
  object.read("prompt", text);
  if (form.raw) form.chat = false;
  return form.encode(model, text);
}

void read_diffusion(LineObject& object, const LoadedModel& model, DiffusionOptions& options) {
  if (!model.diffusion()) return;
  object.read("block_size", options.block_size);
  object.read("sub_block_size", options.sub_block_size);
  object.read("threshold", options.rule.threshold);
  std::string cache;
  object.read("cache", cache);
  if (!cache.empty()) options.cache = parse_canvas_cache(cache);
}

}  // namespace

BatchLine read_batch_line(std::string_view line, std::size_t number, const std::string& where,
                          const LoadedModel& model, const BatchDefaults& defaults) {
  LineObject object(line, where);
  BatchLine result{.id = number, .prompt = {}, .options = defaults.options};
  if (const json* id = object.find("id")) {
    if (!id->is_string() && !id->is_number_integer())
      object.fail("id", "a text or an integer", *id);
    result.id = *id;
  }
  result.prompt = prompt_of(object, where, model, defaults.form);
  GenerateOptions& options = result.options;
  object.read("max_tokens", options.max_tokens);
  object.read("temperature", options.sampler.temperature);
  object.read("top_k", options.sampler.top_k);
  object.read("top_p", options.sampler.top_p);
  object.read("min_p", options.sampler.min_p);
  object.read("repetition_penalty", options.sampler.repetition_penalty);
  object.read("seed", options.sampler.seed);
  object.read("stop", options.stop);
  std::string layers;
  object.read("layers", layers);
  if (!layers.empty()) {
    options.layer_masks = parse_layer_masks(layers, model.config().num_layers);
  }
  read_diffusion(object, model, options.diffusion);
  object.check_all_read();
  return result;
}

bool for_batch_lines(const std::string& file, const BatchLineVisitor& visit) {
  const bool is_input = file == "-";
  const std::string name = is_input ? "standard input" : file;
  const std::string text = is_input ? read_standard_input("batch") : read_text_file(file);
  bool all_good = true;
  bool any = false;
  std::string_view rest = text;
  for (std::size_t number = 1; !rest.empty(); ++number) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    any = true;
    const std::string where = concat(name, ": line ", number);
    try {
      visit(line, number, where);
    } catch (const Error& error) {
      report_at(where, error);
      all_good = false;
    }
  }
  check(any, concat("generate: ", name, " has no request"));
  return all_good;
}

void report_at(const std::string& where, const std::exception& error) {
  const std::string_view what = error.what();
  std::cerr << "perpend: " << (what.starts_with(where) ? "" : where + ": ") << what << "\n";
}

}  // namespace perpend
