#include "perpend/io/safetensors_writer.h"

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/byte_writer.h"
#include "perpend/io/json_text.h"

namespace perpend {
namespace {

constexpr std::string_view kMetadata = "__metadata__";

std::string_view dtype_of(const std::string& path, const TensorSpec& tensor) {
  switch (tensor.format) {
    case BlockFormat::kF32:
      return "F32";
    case BlockFormat::kF16:
      return "F16";
    case BlockFormat::kBF16:
      return "BF16";
    default:
      throw Unsupported(concat(path, ": tensor '", tensor.name, "': safetensors hold f32, f16 and ",
                               "bf16, not ", tensor.format, "; GGUF does"));
  }
}

std::string header_of(const std::string& path, const SafetensorsMetadata& metadata,
                      const TensorQueue& queue) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[std::string(kMetadata)] = metadata;
  std::uint64_t offset = 0;
  for (std::size_t i = 0; i < queue.tensors().size(); ++i) {
    const TensorSpec& tensor = queue.tensors()[i];
    if (tensor.name == kMetadata) {
      throw InvalidArgument(concat(path, ": a tensor can not be called ", kMetadata));
    }
    const std::uint64_t end = offset + queue.num_bytes(i);
    header[tensor.name] = {{"dtype", dtype_of(path, tensor)},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = json_line(header, path);
  // Readers map the file: the tensors begin on a multiple of eight bytes.
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const std::string& path, const SafetensorsMetadata& metadata,
                                     std::vector<TensorSpec> tensors)
    : queue_(path, std::move(tensors)), file_(path) {
  const std::string header = header_of(path, metadata, queue_);
  ByteWriter length;
  length.number(std::uint64_t{header.size()});
  file_.write(length.bytes());
  file_.write(header);
}

void SafetensorsWriter::write(std::string_view name, std::span<const std::byte> bytes) {
  queue_.advance(name, bytes.size());
  file_.write(bytes);
}

void SafetensorsWriter::finish() {
  queue_.check_complete();
  file_.commit();
}

}  // namespace perpend
