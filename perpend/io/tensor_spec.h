#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "perpend/formats/block_format.h"

namespace perpend {

// A tensor that a file is to hold.
struct TensorSpec {
  std::string name;
  BlockFormat format = BlockFormat::kF32;
  std::vector<std::int64_t> shape;  // row-major, outermost first; rows are whole blocks
};

// Bytes that the tensor takes. Throws InvalidArgument naming it for negative dimensions, more than
// 2^48 elements and rows that are no whole number of blocks.
std::uint64_t num_bytes_of(const TensorSpec& tensor);

}  // namespace perpend
