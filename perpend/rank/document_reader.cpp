#include "perpend/rank/document_reader.h"

#include <algorithm>
#include <filesystem>
#include <unordered_map>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/json_text.h"
#include "perpend/io/text_file.h"

namespace perpend {
namespace {

std::string text_of(const nlohmann::json& object, const char* key, const std::string& where) {
  if (!object.contains(key)) throw IoError(concat(where, ": key '", key, "' is missing"));
  if (!object[key].is_string()) {
    throw IoError(concat(where, ": key '", key, "': expected a text, found ",
                         object[key].dump().substr(0, 100)));
  }
  return object[key].get<std::string>();
}

RankDocument document_of(std::string_view line, const std::string& where) {
  const nlohmann::json object = parse_json_object(line, where);
  RankDocument document;
  const bool counted = object.contains("id") && object["id"].is_number_integer();
  document.id = counted ? object["id"].dump() : text_of(object, "id", where);
  document.text = text_of(object, "text", where);
  if (object.contains("title")) document.title = text_of(object, "title", where);
  return document;
}

}  // namespace

std::vector<RankDocument> read_document_lines(std::string_view text, const std::string& name) {
  std::vector<RankDocument> documents;
  std::unordered_map<std::string, std::size_t> lines;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = concat(name, ": line ", number);
    RankDocument document = document_of(line, where);
    const auto [known, is_new] = lines.emplace(document.id, number);
    if (!is_new) {
      throw IoError(
          concat(where, ": the id '", document.id, "' was given before, in line ", known->second));
    }
    documents.push_back(std::move(document));
  }
  return documents;
}

std::vector<RankDocument> read_document_folder(const std::string& path) {
  namespace fs = std::filesystem;
  std::vector<fs::path> files;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(path, error)) {
    const bool hidden = entry.path().filename().string().starts_with('.');
    if (!hidden && entry.is_regular_file()) files.push_back(entry.path());
  }
  if (error) throw IoError(concat(path, ": ", error.message()));
  std::sort(files.begin(), files.end());
  std::vector<RankDocument> documents;
  documents.reserve(files.size());
  for (const fs::path& file : files) {
    documents.push_back({.id = file.filename().string(), .text = read_text_file(file.string())});
  }
  return documents;
}

}  // namespace perpend
