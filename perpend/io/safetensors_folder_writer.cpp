#include "perpend/io/safetensors_folder_writer.h"

#include <filesystem>
#include <iomanip>
#include <sstream>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/json_text.h"

namespace perpend {
namespace {

constexpr const char* kIndexName = "model.safetensors.index.json";

std::string shard_name(std::size_t shard, std::size_t num_shards) {
  if (num_shards == 1) return "model.safetensors";
  std::ostringstream name;
  name << std::setfill('0') << "model-" << std::setw(5) << shard + 1 << "-of-" << std::setw(5)
       << num_shards << ".safetensors";
  return name.str();
}

}  // namespace

SafetensorsFolderWriter::SafetensorsFolderWriter(const std::string& folder,
                                                 SafetensorsMetadata metadata,
                                                 std::vector<TensorSpec> tensors,
                                                 std::uint64_t max_shard_bytes)
    : folder_(folder), metadata_(std::move(metadata)) {
  plan(std::move(tensors), max_shard_bytes);
}

void SafetensorsFolderWriter::plan(std::vector<TensorSpec> tensors, std::uint64_t max_shard_bytes) {
  shards_.emplace_back();
  std::uint64_t shard_bytes = 0;
  for (TensorSpec& tensor : tensors) {
    const std::uint64_t num_bytes = num_bytes_of(tensor);
    if (shard_bytes + num_bytes > max_shard_bytes && !shards_.back().tensors.empty()) {
      shards_.emplace_back();
      shard_bytes = 0;
    }
    shard_bytes += num_bytes;
    num_bytes_ += num_bytes;
    if (!shard_of_.emplace(tensor.name, shards_.size() - 1).second) {
      throw InvalidArgument(concat(folder_, ": tensor '", tensor.name, "' is given twice"));
    }
    shards_.back().tensors.push_back(std::move(tensor));
  }
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    shards_[i].file_name = shard_name(i, shards_.size());
  }
}

std::string SafetensorsFolderWriter::path_of(const std::string& file_name) const {
  return (std::filesystem::path(folder_) / file_name).string();
}

SafetensorsWriter& SafetensorsFolderWriter::writer_of(std::size_t shard) {
  while (writers_.size() <= shard) {
    Shard& next = shards_[writers_.size()];
    writers_.push_back(std::make_unique<SafetensorsWriter>(path_of(next.file_name), metadata_,
                                                           std::move(next.tensors)));
  }
  return *writers_[shard];
}

void SafetensorsFolderWriter::write(std::string_view name, std::span<const std::byte> bytes) {
  const auto found = shard_of_.find(name);
  if (found == shard_of_.end()) {
    throw InvalidArgument(concat(folder_, ": no tensor '", name, "' was announced"));
  }
  writer_of(found->second).write(name, bytes);
}

void SafetensorsFolderWriter::finish() {
  for (std::size_t i = 0; i < shards_.size(); ++i) writer_of(i).finish();
  finish_index();
}

void SafetensorsFolderWriter::finish_index() {
  const std::string path = path_of(kIndexName);
  if (shards_.size() == 1) {
    // Left there by an earlier model of several shards, it would win over model.safetensors.
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
    return;
  }
  nlohmann::ordered_json index;
  index["metadata"]["total_size"] = num_bytes_;
  for (const auto& [tensor, shard] : shard_of_) {
    index["weight_map"][tensor] = shards_[shard].file_name;
  }
  AtomicFile file(path);
  file.write(json_line(index, path));
  file.commit();
}

}  // namespace perpend
