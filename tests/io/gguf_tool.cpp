// Reads and writes GGUF files for the oracle test:
//   gguf_tool describe FILE        metadata and tensors as JSON
//   gguf_tool values FILE          all tensors' values as f32, in the file's order
//   gguf_tool copy FILE OUT        the same file, through the reader and the writer
//   gguf_tool write SPEC.json OUT  a file as described

#include <iostream>
#include <map>
#include <string>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/gguf.h"
#include "perpend/io/gguf_writer.h"
#include "perpend/io/text_file.h"
#include "tests/io/tensor_json.h"

namespace {

using nlohmann::json;
using namespace perpend;

json value_json(const GgufFile& file, std::string_view key, const GgufArray& array) {
  json value = {{"type", info_of(array.type).name}, {"count", array.count}};
  switch (array.type) {
    case GgufType::kString:
      value["values"] = file.get_strings(key);
      break;
    case GgufType::kF32:
      value["values"] = file.get_floats(key);
      break;
    case GgufType::kI32:
      value["values"] = file.get_ints(key);
      break;
    default:
      value["hex"] = to_hex(array.bytes);
  }
  return value;
}

template <class T>
json value_json(const GgufFile&, std::string_view, const T& value) {
  return value;
}

void describe(const GgufFile& file) {
  json result = {{"version", file.version()},
                 {"metadata", json::object()},
                 {"tensors", tensors_json(file.tensors())}};
  for (const auto& [key, value] : file.metadata()) {
    result["metadata"][std::string(key)] =
        std::visit([&](const auto& held) { return value_json(file, key, held); }, value);
  }
  std::cout << result << "\n";
}

template <class T>
GgufMetadata::Value value_of(const json& entry) {
  if (entry.contains("values")) return entry["values"].get<std::vector<T>>();
  return entry["value"].get<T>();
}

const std::map<std::string, GgufMetadata::Value (*)(const json&)> kValueReaders = {
    {"u8", value_of<std::uint8_t>},   {"i8", value_of<std::int8_t>},
    {"u16", value_of<std::uint16_t>}, {"i16", value_of<std::int16_t>},
    {"u32", value_of<std::uint32_t>}, {"i32", value_of<std::int32_t>},
    {"u64", value_of<std::uint64_t>}, {"i64", value_of<std::int64_t>},
    {"f32", value_of<float>},         {"f64", value_of<double>},
    {"bool", value_of<bool>},         {"string", value_of<std::string>}};

void copy(const GgufFile& file, const std::string& out) {
  GgufMetadata metadata;
  metadata.copy(file.records());
  GgufWriter writer(out, metadata, specs_of(file.tensors()));
  for (const StoredTensor& tensor : file.tensors())
    write_in_pieces(writer, tensor.name, tensor.bytes);
  writer.finish();
}

void write(const json& spec, const std::string& out) {
  GgufMetadata metadata;
  for (const json& entry : spec["metadata"]) {
    metadata.set(entry["key"].get<std::string>(), kValueReaders.at(entry["type"])(entry));
  }
  GgufWriter writer(out, metadata, specs_of(spec["tensors"]));
  write_tensors(writer, spec["tensors"]);
  writer.finish();
}

void run(const std::string& command, const std::string& in, const std::string& out) {
  if (command == "describe") {
    describe(GgufFile::open(in));
  } else if (command == "values") {
    print_values(GgufFile::open(in).tensors());
  } else if (command == "copy") {
    copy(GgufFile::open(in), out);
  } else {
    write(json::parse(read_text_file(in)), out);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  try {
    run(argv[1], argv[2], argc > 3 ? argv[3] : "");
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
