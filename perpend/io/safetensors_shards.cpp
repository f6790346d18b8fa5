#include "perpend/io/safetensors_shards.h"

#include <filesystem>
#include <map>
#include <set>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/json_text.h"
#include "perpend/io/text_file.h"

namespace perpend {
namespace {

namespace fs = std::filesystem;

// The tensors that the index expects in each shard.
using TensorsOfShards = std::map<std::string, std::vector<std::string>>;

TensorsOfShards read_index(const std::string& index_path, const std::string& text) {
  const nlohmann::json index = parse_json_object(text, index_path);
  if (!index.contains("weight_map") || !index["weight_map"].is_object()) {
    throw IoError(concat(index_path, ": key 'weight_map': expected an object"));
  }
  if (index["weight_map"].empty()) {
    throw IoError(concat(index_path, ": key 'weight_map': names no weights"));
  }
  TensorsOfShards shards;
  for (const auto& [tensor, shard] : index["weight_map"].items()) {
    // A name must stay inside the folder.
    const std::string name = shard.is_string() ? shard.get<std::string>() : "";
    if (name.empty() || fs::path(name).filename() != fs::path(name)) {
      throw IoError(concat(index_path, ": tensor '", tensor.substr(0, 100),
                           "': expected the name of a file in the folder"));
    }
    shards[name].push_back(tensor);
  }
  return shards;
}

// Half a download otherwise looks like a model of another family.
void check_shard_holds(const SafetensorsFile& shard, const std::vector<std::string>& tensors,
                       const std::string& index_path) {
  std::set<std::string_view> held(shard.other_tensors().begin(), shard.other_tensors().end());
  for (const StoredTensor& tensor : shard.tensors()) held.insert(tensor.name);
  for (const std::string& tensor : tensors) {
    if (!held.contains(tensor)) {
      throw IoError(concat(index_path, ": tensor '", tensor.substr(0, 100),
                           "': ", fs::path(shard.name()).filename().string(), " does not hold it"));
    }
  }
}

}  // namespace

std::vector<SafetensorsFile> open_safetensors_shards(const std::string& folder,
                                                     const std::string& name) {
  const auto file = [&](const std::string& in_folder) {
    return (fs::path(folder) / in_folder).string();
  };
  std::vector<SafetensorsFile> shards;
  const std::string index_path = file(name + ".index.json");
  const auto index = read_text_file_if_any(index_path);
  if (!index) {
    shards.push_back(SafetensorsFile::open(file(name)));
    return shards;
  }
  for (const auto& [shard, tensors] : read_index(index_path, *index)) {
    shards.push_back(SafetensorsFile::open(file(shard)));
    check_shard_holds(shards.back(), tensors, index_path);
  }
  return shards;
}

}  // namespace perpend
