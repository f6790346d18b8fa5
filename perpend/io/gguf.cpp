#include "perpend/io/gguf.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "perpend/core/error.h"
#include "perpend/io/byte_reader.h"

namespace perpend {
namespace {

constexpr int kMaxArrayDepth = 8;

std::optional<BlockFormat> format_of(std::uint32_t number) {
  for (const GgufTensorType& type : kGgufTensorTypes) {
    if (type.number == number) return type.format;
  }
  return std::nullopt;
}

std::string_view type_name(const GgufValue& value) {
  constexpr std::array<std::string_view, 6> kNames = {
      "an unsigned integer", "a signed integer", "a float", "a bool", "a string", "an array"};
  return kNames[value.index()];
}

template <class T>
T read_number(ByteReader& reader, std::string_view field) {
  T value{};
  std::memcpy(&value, reader.take(sizeof(T), field).data(), sizeof(T));
  return value;
}

std::string_view read_string(ByteReader& reader, std::string_view field) {
  const auto size = read_number<std::uint64_t>(reader, field);
  const auto bytes = reader.take(size, field);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

GgufType read_type(ByteReader& reader, std::string_view field) {
  const auto type = read_number<std::uint32_t>(reader, field);
  if (type >= kGgufTypes.size()) {
    reader.fail(field, concat("expected a value type below ", kGgufTypes.size(), ", found ", type));
  }
  return GgufType{type};
}

void skip_elements(ByteReader& reader, GgufType type, std::uint64_t count, std::string_view field,
                   int depth);

GgufArray read_array(ByteReader& reader, std::string_view field, int depth) {
  if (depth > kMaxArrayDepth) reader.fail(field, "arrays are nested too deep");
  GgufArray array;
  array.type = read_type(reader, field);
  array.count = read_number<std::uint64_t>(reader, field);
  const auto rest = reader.rest();
  skip_elements(reader, array.type, array.count, field, depth);
  array.bytes = rest.first(rest.size() - reader.rest().size());
  return array;
}

void skip_elements(ByteReader& reader, GgufType type, std::uint64_t count, std::string_view field,
                   int depth) {
  if (type != GgufType::kString && type != GgufType::kArray) {
    if (count > reader.rest().size()) {
      reader.fail(field, concat("array of ", count, " elements is longer than the file"));
    }
    reader.take(count * info_of(type).bytes, field);
    return;
  }
  for (std::uint64_t i = 0; i < count; ++i) {
    if (type == GgufType::kString) {
      read_string(reader, field);
    } else {
      read_array(reader, field, depth + 1);
    }
  }
}

GgufValue read_value(ByteReader& reader, GgufType type, std::string_view field) {
  switch (type) {
    case GgufType::kU8:
      return std::uint64_t{read_number<std::uint8_t>(reader, field)};
    case GgufType::kI8:
      return std::int64_t{read_number<std::int8_t>(reader, field)};
    case GgufType::kU16:
      return std::uint64_t{read_number<std::uint16_t>(reader, field)};
    case GgufType::kI16:
      return std::int64_t{read_number<std::int16_t>(reader, field)};
    case GgufType::kU32:
      return std::uint64_t{read_number<std::uint32_t>(reader, field)};
    case GgufType::kI32:
      return std::int64_t{read_number<std::int32_t>(reader, field)};
    case GgufType::kF32:
      return double{read_number<float>(reader, field)};
    case GgufType::kBool: {
      const auto value = read_number<std::uint8_t>(reader, field);
      if (value > 1) reader.fail(field, concat("expected a bool (0 or 1), found ", int{value}));
      return value == 1;
    }
    case GgufType::kString:
      return read_string(reader, field);
    case GgufType::kArray:
      return read_array(reader, field, 0);
    case GgufType::kU64:
      return read_number<std::uint64_t>(reader, field);
    case GgufType::kI64:
      return read_number<std::int64_t>(reader, field);
    case GgufType::kF64:
      break;
  }
  return read_number<double>(reader, field);
}

// A tensor's entry in the header; its bytes are known when the header's end is.
struct TensorHeader {
  StoredTensor tensor;
  std::uint64_t offset = 0;
  std::uint64_t num_bytes = 0;
};

TensorHeader read_tensor_header(ByteReader& reader) {
  TensorHeader header;
  StoredTensor& tensor = header.tensor;
  tensor.name = std::string(read_string(reader, "tensor name"));
  const std::string field = concat("tensor '", tensor.name.substr(0, 100), "'");
  const auto num_dims = read_number<std::uint32_t>(reader, field);
  if (num_dims == 0 || num_dims > kGgufMaxDims) {
    reader.fail(field, concat("expected 1 to ", kGgufMaxDims, " dimensions, found ", num_dims));
  }
  std::uint64_t count = 1;
  for (std::uint32_t i = 0; i < num_dims; ++i) {
    const auto size = read_number<std::uint64_t>(reader, field);
    if (size == 0 || size > std::uint64_t{1} << 40 || count > (std::uint64_t{1} << 48) / size) {
      reader.fail(field, concat("dimension ", i, " of ", size, " is out of range"));
    }
    count *= size;
    tensor.shape.push_back(static_cast<std::int64_t>(size));
  }
  const auto type = read_number<std::uint32_t>(reader, field);
  const auto format = format_of(type);
  if (!format) {
    throw Unsupported(concat(reader.name(), ": ", field, ": tensor type ", type,
                             " is not built; F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, "
                             "Q5_K and Q6_K are"));
  }
  tensor.format = *format;
  const BlockFormatInfo& info = info_of(*format);
  if (tensor.shape.front() % info.block_size != 0) {
    reader.fail(field, concat("rows of ", tensor.shape.front(), " values are no multiple of the ",
                              info.name, " block of ", info.block_size));
  }
  header.num_bytes = count / static_cast<std::uint64_t>(info.block_size) *
                     static_cast<std::uint64_t>(info.block_bytes);
  std::reverse(tensor.shape.begin(), tensor.shape.end());
  header.offset = read_number<std::uint64_t>(reader, field);
  return header;
}

// Gives tensors their bytes: offsets count from the first aligned byte behind the header, must be
// aligned themselves, and must neither leave the file nor overlap.
void place_tensors(std::span<const std::byte> bytes, const ByteReader& reader,
                   std::uint64_t alignment, std::vector<TensorHeader>& headers) {
  const std::size_t header_end = bytes.size() - reader.rest().size();
  const std::uint64_t data_begin = gguf_padded(header_end, alignment);
  std::vector<std::pair<std::uint64_t, const TensorHeader*>> order;
  for (TensorHeader& header : headers) {
    const std::string field = concat("tensor '", header.tensor.name.substr(0, 100), "'");
    if (header.offset % alignment != 0) {
      reader.fail(field, concat("offset ", header.offset, " is no multiple of ", alignment));
    }
    if (data_begin > bytes.size() || header.offset > bytes.size() - data_begin ||
        header.num_bytes > bytes.size() - data_begin - header.offset) {
      reader.fail(field, concat("its ", header.num_bytes, " bytes at offset ", header.offset,
                                " reach beyond the end of the file"));
    }
    header.tensor.bytes = bytes.subspan(data_begin + header.offset, header.num_bytes);
    order.emplace_back(header.offset, &header);
  }
  std::sort(order.begin(), order.end());
  for (std::size_t i = 1; i < order.size(); ++i) {
    if (order[i - 1].first + order[i - 1].second->num_bytes > order[i].first) {
      reader.fail(
          concat("tensor '", order[i].second->tensor.name.substr(0, 100), "'"),
          concat("overlaps tensor '", order[i - 1].second->tensor.name.substr(0, 100), "'"));
    }
  }
}

}  // namespace

GgufFile GgufFile::open(const std::string& path) {
  GgufFile file;
  file.name_ = path;
  file.file_ = MappedFile::open(path);
  file.read(file.file_->bytes());
  return file;
}

GgufFile GgufFile::parse(std::span<const std::byte> bytes, std::string name) {
  GgufFile file;
  file.name_ = std::move(name);
  file.read(bytes);
  return file;
}

void GgufFile::read(std::span<const std::byte> bytes) {
  ByteReader reader(bytes, name_);
  const auto magic = reader.take(4, "magic");
  if (std::memcmp(magic.data(), "GGUF", 4) != 0) reader.fail("magic", "expected 'GGUF'");
  version_ = read_number<std::uint32_t>(reader, "version");
  if (version_ != 2 && version_ != 3) {
    reader.fail("version", concat("expected 2 or 3, little endian, found ", version_));
  }
  const auto num_tensors = read_number<std::uint64_t>(reader, "tensor count");
  const auto num_values = read_number<std::uint64_t>(reader, "metadata count");
  for (std::uint64_t i = 0; i < num_values; ++i) {
    const std::string_view key = read_string(reader, "metadata key");
    const std::string field = concat("key '", key.substr(0, 100), "'");
    const GgufType type = read_type(reader, field);
    const auto rest = reader.rest();
    GgufValue value = read_value(reader, type, field);
    records_.push_back({key, type, rest.first(rest.size() - reader.rest().size())});
    if (!metadata_.emplace(key, value).second) reader.fail(field, "given twice");
  }
  const std::uint64_t alignment = get_u64("general.alignment").value_or(kGgufAlignment);
  if (!is_gguf_alignment(alignment)) {
    reader.fail("key 'general.alignment'",
                concat("expected a power of two up to 2^20, found ", alignment));
  }
  std::vector<TensorHeader> headers;
  for (std::uint64_t i = 0; i < num_tensors; ++i) headers.push_back(read_tensor_header(reader));
  place_tensors(bytes, reader, alignment, headers);
  for (TensorHeader& header : headers) {
    if (!tensor_index_.emplace(header.tensor.name, tensors_.size()).second) {
      reader.fail(concat("tensor '", header.tensor.name.substr(0, 100), "'"), "given twice");
    }
    tensors_.push_back(std::move(header.tensor));
  }
}

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto found = metadata_.find(key);
  return found == metadata_.end() ? nullptr : &found->second;
}

namespace {

[[noreturn]] void wrong_type(const GgufFile& file, std::string_view key, std::string_view expected,
                             std::string_view found) {
  throw IoError(concat(file.name(), ": key '", key, "': expected ", expected, ", found ", found));
}

// Null when the key is absent.
const GgufArray* find_array(const GgufFile& file, std::string_view key, GgufType type) {
  const GgufValue* value = file.find(key);
  if (value == nullptr) return nullptr;
  const auto* array = std::get_if<GgufArray>(value);
  if (array == nullptr) wrong_type(file, key, "an array", type_name(*value));
  if (array->type != type) {
    wrong_type(file, key, concat("an array of ", info_of(type).name),
               concat("an array of ", info_of(array->type).name));
  }
  return array;
}

template <class T>
std::vector<T> numbers(const GgufFile& file, std::string_view key, GgufType type) {
  const GgufArray* array = find_array(file, key, type);
  if (array == nullptr || array->count == 0) return {};
  std::vector<T> result(array->count);
  std::memcpy(result.data(), array->bytes.data(), array->bytes.size());
  return result;
}

}  // namespace

std::optional<std::uint64_t> GgufFile::get_u64(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* number = std::get_if<std::uint64_t>(value)) return *number;
  const auto* number = std::get_if<std::int64_t>(value);
  if (number == nullptr || *number < 0) {
    wrong_type(*this, key, "an unsigned integer",
               number == nullptr ? type_name(*value) : "a negative number");
  }
  return static_cast<std::uint64_t>(*number);
}

std::optional<double> GgufFile::get_f64(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto* number = std::get_if<double>(value);
  if (number == nullptr) wrong_type(*this, key, "a float", type_name(*value));
  return *number;
}

std::optional<bool> GgufFile::get_bool(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto* flag = std::get_if<bool>(value);
  if (flag == nullptr) wrong_type(*this, key, "a bool", type_name(*value));
  return *flag;
}

std::optional<std::string_view> GgufFile::get_string(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto* text = std::get_if<std::string_view>(value);
  if (text == nullptr) wrong_type(*this, key, "a string", type_name(*value));
  return *text;
}

std::vector<std::string_view> GgufFile::get_strings(std::string_view key) const {
  const GgufArray* array = find_array(*this, key, GgufType::kString);
  if (array == nullptr) return {};
  // The array was walked once when the file was read: its strings lie inside its bytes.
  std::vector<std::string_view> strings;
  strings.reserve(array->count);
  ByteReader reader(array->bytes, name_);
  for (std::uint64_t i = 0; i < array->count; ++i) strings.push_back(read_string(reader, key));
  return strings;
}

std::vector<float> GgufFile::get_floats(std::string_view key) const {
  return numbers<float>(*this, key, GgufType::kF32);
}

std::vector<std::int32_t> GgufFile::get_ints(std::string_view key) const {
  return numbers<std::int32_t>(*this, key, GgufType::kI32);
}

std::uint64_t GgufFile::require_u64(std::string_view key) const {
  const auto value = get_u64(key);
  if (!value) throw IoError(concat(name_, ": key '", key, "' is missing"));
  return *value;
}

std::string_view GgufFile::require_string(std::string_view key) const {
  const auto value = get_string(key);
  if (!value) throw IoError(concat(name_, ": key '", key, "' is missing"));
  return *value;
}

const StoredTensor* GgufFile::tensor(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

}  // namespace perpend
