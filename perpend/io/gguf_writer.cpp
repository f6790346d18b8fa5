#include "perpend/io/gguf_writer.h"

#include <algorithm>

#include "perpend/core/error.h"
#include "perpend/io/byte_writer.h"

namespace perpend {
namespace {

constexpr std::size_t kMaxName = 63;  // llama.cpp refuses files with longer ones

std::uint32_t number_of(BlockFormat format) {
  const auto* found =
      std::find_if(kGgufTensorTypes.begin(), kGgufTensorTypes.end(),
                   [&](const GgufTensorType& type) { return type.format == format; });
  if (found == kGgufTensorTypes.end()) bug("a block format without a GGUF number");
  return found->number;
}

void check_tensor(const std::string& path, const TensorSpec& tensor) {
  const auto fail = [&](std::string_view what) {
    throw InvalidArgument(concat(path, ": tensor '", tensor.name, "': ", what));
  };
  if (tensor.name.empty() || tensor.name.size() > kMaxName) {
    fail(concat("its name must have 1 to ", kMaxName, " bytes"));
  }
  if (tensor.shape.empty() || tensor.shape.size() > kGgufMaxDims) {
    fail(concat("expected 1 to ", kGgufMaxDims, " dimensions, found ", tensor.shape.size()));
  }
  const auto shortest = *std::min_element(tensor.shape.begin(), tensor.shape.end());
  if (shortest < 1) fail(concat("expected dimensions of at least 1, found ", shortest));
}

void append_metadata(ByteWriter& out, const GgufMetadata& metadata) {
  for (const GgufMetadata::Entry& entry : metadata.entries()) {
    out.counted_text(entry.key);
    out.number(static_cast<std::uint32_t>(entry.type));
    out.text(entry.bytes);
  }
}

void append_tensors(ByteWriter& out, const TensorQueue& queue, std::uint64_t alignment) {
  std::uint64_t offset = 0;
  for (std::size_t i = 0; i < queue.tensors().size(); ++i) {
    const TensorSpec& tensor = queue.tensors()[i];
    out.counted_text(tensor.name);
    out.number(static_cast<std::uint32_t>(tensor.shape.size()));
    for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size) out.number(*size);
    out.number(number_of(tensor.format));
    out.number(offset);
    offset += gguf_padded(queue.num_bytes(i), alignment);
  }
}

}  // namespace

GgufWriter::GgufWriter(const std::string& path, const GgufMetadata& metadata,
                       std::vector<TensorSpec> tensors)
    : queue_(path, std::move(tensors)), alignment_(metadata.alignment()), file_(path) {
  for (const TensorSpec& tensor : queue_.tensors()) check_tensor(path, tensor);
  ByteWriter header;
  header.text("GGUF");
  header.number(std::uint32_t{3});
  header.number(std::uint64_t{queue_.tensors().size()});
  header.number(std::uint64_t{metadata.entries().size()});
  append_metadata(header, metadata);
  append_tensors(header, queue_, alignment_);
  file_.write(header.bytes());
  pad(header.bytes().size());
}

void GgufWriter::pad(std::uint64_t size) {
  file_.write(std::string(gguf_padded(size, alignment_) - size, '\0'));
}

void GgufWriter::write(std::string_view name, std::span<const std::byte> bytes) {
  const bool complete = queue_.advance(name, bytes.size());
  file_.write(bytes);
  num_written_ += bytes.size();
  if (!complete) return;
  pad(num_written_);
  num_written_ = gguf_padded(num_written_, alignment_);
}

void GgufWriter::finish() {
  queue_.check_complete();
  file_.commit();
}

}  // namespace perpend
