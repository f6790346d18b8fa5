#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "perpend/formats/block_format.h"

namespace perpend {

// A weight as it lies in a mapped file. `bytes` is borrowed from the file object.
struct StoredTensor {
  std::string name;
  BlockFormat format = BlockFormat::kF32;
  std::vector<std::int64_t> shape;  // row-major, outermost first (GGUF stores the reverse)
  std::span<const std::byte> bytes;
};

}  // namespace perpend
