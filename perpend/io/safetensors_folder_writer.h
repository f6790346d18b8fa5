#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "perpend/io/safetensors_writer.h"

namespace perpend {

// Writes the weights of a Hugging Face folder: model.safetensors or, when they take more than
// `max_shard_bytes`, model-00001-of-00003.safetensors and so on with model.safetensors.index.json.
// Used as SafetensorsWriter is; all files appear in finish(), the index last.
class SafetensorsFolderWriter {
 public:
  static constexpr std::uint64_t kMaxShardBytes = 5'000'000'000;  // as Transformers cuts

  // The folder must exist. A tensor larger than a shard gets one of its own. Throws as
  // SafetensorsWriter does.
  SafetensorsFolderWriter(const std::string& folder, SafetensorsMetadata metadata,
                          std::vector<TensorSpec> tensors,
                          std::uint64_t max_shard_bytes = kMaxShardBytes);

  void write(std::string_view name, std::span<const std::byte> bytes);
  void finish();

 private:
  struct Shard {
    std::string file_name;
    std::vector<TensorSpec> tensors;
  };

  void plan(std::vector<TensorSpec> tensors, std::uint64_t max_shard_bytes);
  std::string path_of(const std::string& file_name) const;
  SafetensorsWriter& writer_of(std::size_t shard);
  void finish_index();

  std::string folder_;
  SafetensorsMetadata metadata_;
  std::uint64_t num_bytes_ = 0;
  std::vector<Shard> shards_;
  std::map<std::string, std::size_t, std::less<>> shard_of_;  // by tensor name
  std::vector<std::unique_ptr<SafetensorsWriter>> writers_;   // of the shards begun so far
};

}  // namespace perpend
