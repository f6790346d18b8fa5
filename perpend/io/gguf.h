#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "perpend/io/gguf_types.h"
#include "perpend/io/mapped_file.h"
#include "perpend/io/stored_tensor.h"

namespace perpend {

struct GgufArray;

// A value of GGUF metadata. Integers of all widths are kept as 64 bit; strings and arrays are
// borrowed from the file's bytes.
using GgufValue =
    std::variant<std::uint64_t, std::int64_t, double, bool, std::string_view, GgufArray>;

// Elements of one type, still in file form; GgufFile::get_* read them.
struct GgufArray {
  GgufType type = GgufType::kU8;
  std::uint64_t count = 0;
  std::span<const std::byte> bytes;
};

// A key and its value as they lie in the file, for copying them into another.
struct GgufRecord {
  std::string_view key;
  GgufType type;
  std::span<const std::byte> bytes;
};

// A GGUF file, version 2 or 3, little endian (the format's specification in the ggml repository,
// docs/gguf.md). Nothing in the bytes is trusted: every count, length and offset is checked against
// what is left of the file before it is used.
class GgufFile {
 public:
  // Throws IoError naming the file, the field and what was expected; Unsupported for tensor types
  // without a BlockFormat.
  static GgufFile open(const std::string& path);
  // Of bytes that the caller keeps; `name` stands for the path in errors.
  static GgufFile parse(std::span<const std::byte> bytes, std::string name);

  const std::string& name() const { return name_; }
  std::uint32_t version() const { return version_; }
  const std::map<std::string_view, GgufValue, std::less<>>& metadata() const { return metadata_; }
  // The same, undecoded and in the file's order.
  std::span<const GgufRecord> records() const { return records_; }
  const GgufValue* find(std::string_view key) const;

  // Absent when the key is; IoError when it is of another type.
  std::optional<std::uint64_t> get_u64(std::string_view key) const;
  std::optional<double> get_f64(std::string_view key) const;
  std::optional<bool> get_bool(std::string_view key) const;
  std::optional<std::string_view> get_string(std::string_view key) const;
  // Empty when the key is absent.
  std::vector<std::string_view> get_strings(std::string_view key) const;
  std::vector<float> get_floats(std::string_view key) const;
  std::vector<std::int32_t> get_ints(std::string_view key) const;
  // IoError when absent, too.
  std::uint64_t require_u64(std::string_view key) const;
  std::string_view require_string(std::string_view key) const;

  std::span<const StoredTensor> tensors() const { return tensors_; }
  const StoredTensor* tensor(std::string_view name) const;

 private:
  GgufFile() = default;
  void read(std::span<const std::byte> bytes);

  std::string name_;
  std::optional<MappedFile> file_;
  std::uint32_t version_ = 0;
  std::map<std::string_view, GgufValue, std::less<>> metadata_;
  std::vector<GgufRecord> records_;
  std::vector<StoredTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> tensor_index_;
};

}  // namespace perpend
