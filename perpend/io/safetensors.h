#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "perpend/io/mapped_file.h"
#include "perpend/io/stored_tensor.h"

namespace perpend {

// Whole numbers from -128 to 127 as they lie in a mapped file.
struct Int8Tensor {
  std::string name;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
};

// A .safetensors file: eight bytes of header length, a JSON header, the bytes of all tensors
// without holes. F32, F16 and BF16 tensors are weights; tensors of other types are listed by name
// alone, but for those of I8, which mean what somebody else knows.
class SafetensorsFile {
 public:
  // Throws IoError naming the file, the tensor and what was expected.
  static SafetensorsFile open(const std::string& path);
  // Of bytes that the caller keeps; `name` stands for the path in errors.
  static SafetensorsFile parse(std::span<const std::byte> bytes, std::string name);

  const std::string& name() const { return name_; }
  std::span<const StoredTensor> tensors() const { return tensors_; }
  const StoredTensor* tensor(std::string_view name) const;
  // Tensors of types that are no weights (integers, bools, f64).
  std::span<const std::string> other_tensors() const { return other_tensors_; }
  // Null unless there is an I8 tensor of that name.
  const Int8Tensor* int8_tensor(std::string_view name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  SafetensorsFile() = default;
  void read(std::span<const std::byte> bytes);

  std::string name_;
  std::optional<MappedFile> file_;
  std::vector<StoredTensor> tensors_;
  std::vector<std::string> other_tensors_;
  std::vector<Int8Tensor> int8_tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace perpend
