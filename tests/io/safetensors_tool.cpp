// Reads and writes safetensors files for the oracle test:
//   safetensors_tool describe FILE               metadata and tensors as JSON
//   safetensors_tool values FILE                 the weights' values as f32, in the file's order
//   safetensors_tool values-of-model FOLDER      the same for a folder, in order of name
//   safetensors_tool write SPEC.json OUT         a file as described
//   safetensors_tool write-model SPEC.json OUT   a folder of shards of spec["max_shard_bytes"]

#include <algorithm>
#include <iostream>
#include <string>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/checkpoint.h"
#include "perpend/io/safetensors.h"
#include "perpend/io/safetensors_folder_writer.h"
#include "perpend/io/text_file.h"
#include "tests/io/tensor_json.h"

namespace {

using nlohmann::json;
using namespace perpend;

void describe(const SafetensorsFile& file) {
  std::cout << json{{"metadata", file.metadata()},
                    {"tensors", tensors_json(file.tensors())},
                    {"other_tensors", std::vector<std::string>(file.other_tensors().begin(),
                                                               file.other_tensors().end())}}
            << "\n";
}

void values_of_model(const Checkpoint& model) {
  std::vector<StoredTensor> tensors(model.tensors().begin(), model.tensors().end());
  std::sort(tensors.begin(), tensors.end(),
            [](const StoredTensor& a, const StoredTensor& b) { return a.name < b.name; });
  print_values(tensors);
}

template <class Writer, class... Options>
void write(const json& spec, const std::string& out, Options... options) {
  Writer writer(out, spec["metadata"].get<SafetensorsMetadata>(), specs_of(spec["tensors"]),
                options...);
  write_tensors(writer, spec["tensors"]);
  writer.finish();
}

void run(const std::string& command, const std::string& in, const std::string& out) {
  if (command == "describe") {
    describe(SafetensorsFile::open(in));
  } else if (command == "values") {
    print_values(SafetensorsFile::open(in).tensors());
  } else if (command == "values-of-model") {
    values_of_model(Checkpoint::open(in));
  } else if (command == "write") {
    write<SafetensorsWriter>(json::parse(read_text_file(in)), out);
  } else {
    const json spec = json::parse(read_text_file(in));
    write<SafetensorsFolderWriter>(spec, out, spec["max_shard_bytes"].get<std::uint64_t>());
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
