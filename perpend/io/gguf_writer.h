#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "perpend/io/atomic_file.h"
#include "perpend/io/gguf_metadata.h"
#include "perpend/io/tensor_queue.h"

namespace perpend {

// Writes a GGUF file, version 3, little endian. The header is known from the start; the tensors'
// bytes follow one after another, so that no copy of the model is ever held. The file appears under
// its name when finish() returns, until then it is a temporary file beside it; without finish()
// nothing is left behind.
//
//   GgufWriter writer("out.gguf", metadata, {{"w", BlockFormat::kQ8_0, {rows, columns}}});
//   for (...) writer.write("w", row);
//   writer.finish();
class GgufWriter {
 public:
  // Throws InvalidArgument for tensors that the format can not hold (names empty, of more than 63
  // bytes or given twice; not 1 to 4 dimensions; dimensions below 1; rows that are no whole blocks)
  // and IoError with path and reason.
  GgufWriter(const std::string& path, const GgufMetadata& metadata,
             std::vector<TensorSpec> tensors);

  // The next bytes of the tensor called `name`, in pieces of any size, tensors in the order given.
  // Throws InvalidArgument when it is another tensor's turn or the tensor has fewer bytes left.
  void write(std::string_view name, std::span<const std::byte> bytes);
  // Throws InvalidArgument when a tensor lacks bytes and IoError when anything was not written.
  void finish();

 private:
  void pad(std::uint64_t size);

  TensorQueue queue_;
  std::uint64_t alignment_;
  std::uint64_t num_written_ = 0;  // bytes of tensors and padding
  AtomicFile file_;
};

}  // namespace perpend
