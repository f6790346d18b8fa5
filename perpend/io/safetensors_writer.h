#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "perpend/io/atomic_file.h"
#include "perpend/io/tensor_queue.h"

namespace perpend {

// What stands under __metadata__; Transformers expects {"format", "pt"}.
using SafetensorsMetadata = std::map<std::string, std::string>;

// Writes one .safetensors file of F32, F16 and BF16 tensors. The tensors' bytes are given one after
// another, so that no copy of the model is ever held. The file appears under its name when finish()
// returns, until then it is a temporary file beside it; without finish() nothing is left behind.
class SafetensorsWriter {
 public:
  // Throws InvalidArgument (a name given twice, "__metadata__" or not UTF-8; a shape out of range),
  // Unsupported (a quantised format) and IoError with path and reason.
  SafetensorsWriter(const std::string& path, const SafetensorsMetadata& metadata,
                    std::vector<TensorSpec> tensors);

  // The next bytes of the tensor called `name`, in pieces of any size, tensors in the order given.
  // Throws InvalidArgument when it is another tensor's turn or the tensor has fewer bytes left.
  void write(std::string_view name, std::span<const std::byte> bytes);
  // Throws InvalidArgument when a tensor lacks bytes and IoError when anything was not written.
  void finish();

 private:
  TensorQueue queue_;
  AtomicFile file_;
};

}  // namespace perpend
