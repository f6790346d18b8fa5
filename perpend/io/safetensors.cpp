#include "perpend/io/safetensors.h"

#include <algorithm>
#include <cstring>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/byte_reader.h"
#include "perpend/io/json_text.h"

namespace perpend {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxHeader = 100'000'000;
constexpr std::uint64_t kMaxElements = std::uint64_t{1} << 48;

struct TypeInfo {
  std::string_view name;
  std::uint64_t bytes;
  std::optional<BlockFormat> format;
};

constexpr TypeInfo kTypes[] = {
    {"F32", 4, BlockFormat::kF32},    {"F16", 2, BlockFormat::kF16},
    {"BF16", 2, BlockFormat::kBF16},  {"F64", 8, std::nullopt},
    {"I64", 8, std::nullopt},         {"U64", 8, std::nullopt},
    {"I32", 4, std::nullopt},         {"U32", 4, std::nullopt},
    {"I16", 2, std::nullopt},         {"U16", 2, std::nullopt},
    {"I8", 1, std::nullopt},          {"U8", 1, std::nullopt},
    {"BOOL", 1, std::nullopt},        {"F8_E4M3", 1, std::nullopt},
    {"F8_E5M2", 1, std::nullopt},     {"F8_E8M0", 1, std::nullopt},
    {"F8_E4M3FNUZ", 1, std::nullopt}, {"F8_E5M2FNUZ", 1, std::nullopt},
    {"C64", 8, std::nullopt},
};

struct Entry {
  std::string name;
  const TypeInfo* type;
  std::vector<std::int64_t> shape;
  std::uint64_t begin;
  std::uint64_t end;
};

std::uint64_t read_unsigned(const json& value, const ByteReader& reader, std::string_view field) {
  if (!value.is_number_unsigned())
    reader.fail(field, concat("expected a whole number, found ", value.dump().substr(0, 50)));
  return value.get<std::uint64_t>();
}

Entry read_entry(const std::string& name, const json& value, const ByteReader& reader) {
  const std::string field = concat("tensor '", name.substr(0, 100), "'");
  if (!value.is_object() || !value.contains("dtype") || !value.contains("shape") ||
      !value.contains("data_offsets") || value.size() != 3) {
    reader.fail(field, "expected an object of dtype, shape and data_offsets");
  }
  Entry entry{name, nullptr, {}, 0, 0};
  if (!value["dtype"].is_string()) reader.fail(field, "dtype: expected a string");
  const auto dtype = value["dtype"].get<std::string>();
  for (const TypeInfo& type : kTypes) {
    if (type.name == dtype) entry.type = &type;
  }
  if (entry.type == nullptr)
    reader.fail(field, concat("unknown dtype '", dtype.substr(0, 50), "'"));
  if (!value["shape"].is_array()) reader.fail(field, "shape: expected an array");
  std::uint64_t count = 1;
  for (const json& size : value["shape"]) {
    const std::uint64_t length = read_unsigned(size, reader, field);
    if (length > kMaxElements || (length != 0 && count > kMaxElements / length)) {
      reader.fail(field, "the shape has too many elements");
    }
    count *= length;
    entry.shape.push_back(static_cast<std::int64_t>(length));
  }
  const json& offsets = value["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2) {
    reader.fail(field, "data_offsets: expected two numbers");
  }
  entry.begin = read_unsigned(offsets[0], reader, field);
  entry.end = read_unsigned(offsets[1], reader, field);
  if (entry.end < entry.begin || entry.end - entry.begin != count * entry.type->bytes) {
    reader.fail(field, concat("data_offsets span ", entry.begin, " to ", entry.end,
                              ", the shape needs ", count * entry.type->bytes, " bytes"));
  }
  return entry;
}

// Tensors must fill the rest of the file one after another, without holes or overlaps.
void check_layout(const std::vector<Entry>& entries, const ByteReader& reader) {
  std::uint64_t position = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != position) {
      reader.fail(concat("tensor '", entry.name.substr(0, 100), "'"),
                  concat("expected to begin at offset ", position, ", found ", entry.begin));
    }
    position = entry.end;
  }
  if (position != reader.rest().size()) {
    reader.fail("data",
                concat("tensors take ", position, " bytes, the file holds ", reader.rest().size()));
  }
}

template <class T>
const T* named(const std::vector<T>& tensors, std::string_view name) {
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const T& tensor) { return tensor.name == name; });
  return found == tensors.end() ? nullptr : &*found;
}

}  // namespace

SafetensorsFile SafetensorsFile::open(const std::string& path) {
  SafetensorsFile file;
  file.name_ = path;
  file.file_ = MappedFile::open(path);
  file.read(file.file_->bytes());
  return file;
}

SafetensorsFile SafetensorsFile::parse(std::span<const std::byte> bytes, std::string name) {
  SafetensorsFile file;
  file.name_ = std::move(name);
  file.read(bytes);
  return file;
}

void SafetensorsFile::read(std::span<const std::byte> bytes) {
  ByteReader reader(bytes, name_);
  std::uint64_t header_size = 0;
  std::memcpy(&header_size, reader.take(8, "header length").data(), 8);
  if (header_size > kMaxHeader) {
    reader.fail("header length", concat("expected at most ", kMaxHeader, ", found ", header_size));
  }
  const auto header = reader.take(header_size, "header");
  const json object = parse_json_object(
      {reinterpret_cast<const char*>(header.data()), header.size()}, concat(name_, ": header"));
  std::vector<Entry> entries;
  for (const auto& [name, value] : object.items()) {
    if (name == "__metadata__") {
      if (!value.is_object()) reader.fail("__metadata__", "expected an object");
      for (const auto& [key, text] : value.items()) {
        if (!text.is_string()) reader.fail("__metadata__", "expected strings");
        metadata_.emplace(key, text.get<std::string>());
      }
    } else {
      entries.push_back(read_entry(name, value, reader));
    }
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  check_layout(entries, reader);
  for (Entry& entry : entries) {
    const auto content = reader.rest().subspan(static_cast<std::size_t>(entry.begin),
                                               static_cast<std::size_t>(entry.end - entry.begin));
    if (entry.type->format) {
      tensors_.push_back(
          {std::move(entry.name), *entry.type->format, std::move(entry.shape), content});
      continue;
    }
    other_tensors_.push_back(entry.name);
    if (entry.type->name == "I8") {
      int8_tensors_.push_back({std::move(entry.name), std::move(entry.shape), content});
    }
  }
}

const StoredTensor* SafetensorsFile::tensor(std::string_view name) const {
  return named(tensors_, name);
}

const Int8Tensor* SafetensorsFile::int8_tensor(std::string_view name) const {
  return named(int8_tensors_, name);
}

}  // namespace perpend
