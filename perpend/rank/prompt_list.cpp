#include "perpend/rank/prompt_list.h"

#include <algorithm>
#include <unordered_map>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/json_text.h"

namespace perpend {
namespace {

std::vector<std::string> ids_of(const nlohmann::json& object, const char* key,
                                const std::string& where) {
  const auto list = object.find(key);
  const auto is_text = [](const nlohmann::json& value) { return value.is_string(); };
  if (list == object.end() || !list->is_array() ||
      !std::all_of(list->begin(), list->end(), is_text)) {
    throw IoError(concat(where, ": key '", key, "': expected a list of ids"));
  }
  return list->get<std::vector<std::string>>();
}

}  // namespace

std::vector<PromptLine> read_prompt_lines(std::string_view text, const std::string& name,
                                          std::span<const RankDocument> documents) {
  std::unordered_map<std::string_view, std::size_t> places;
  for (std::size_t i = 0; i < documents.size(); ++i) places.emplace(documents[i].id, i);
  std::vector<PromptLine> prompts;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = concat(name, ": line ", number);
    const nlohmann::json object = parse_json_object(line, where);
    if (!object.contains("query") || !object["query"].is_string()) {
      throw IoError(concat(where, ": key 'query': expected a text"));
    }
    PromptLine& prompt = prompts.emplace_back();
    prompt.query = object["query"].get<std::string>();
    const std::vector<std::string> ids = ids_of(object, "documents", where);
    for (const std::string& id : ids) {
      const auto place = places.find(id);
      if (place == places.end()) throw IoError(concat(where, ": there is no document '", id, "'"));
      prompt.documents.push_back(place->second);
    }
    for (const std::string& id : ids_of(object, "answer_ids", where)) {
      const auto found = std::find(ids.begin(), ids.end(), id);
      if (found == ids.end()) {
        throw IoError(concat(where, ": the answer '", id, "' is not one of the documents"));
      }
      prompt.answers.push_back(static_cast<std::size_t>(found - ids.begin()));
    }
  }
  return prompts;
}

}  // namespace perpend
