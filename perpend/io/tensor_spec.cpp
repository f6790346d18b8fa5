#include "perpend/io/tensor_spec.h"

#include "perpend/core/error.h"

namespace perpend {

std::uint64_t num_bytes_of(const TensorSpec& tensor) {
  const BlockFormatInfo& info = info_of(tensor.format);
  const auto block_size = static_cast<std::uint64_t>(info.block_size);
  std::uint64_t count = 1;
  for (const std::int64_t length : tensor.shape) {
    const auto size = static_cast<std::uint64_t>(length);
    if (length < 0 || (size != 0 && count > (std::uint64_t{1} << 48) / size)) {
      throw InvalidArgument(
          concat("tensor '", tensor.name, "': dimension of ", length, " is out of range"));
    }
    count *= size;
  }
  const std::int64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
  if (row % info.block_size != 0) {
    throw InvalidArgument(concat("tensor '", tensor.name, "': rows of ", row,
                                 " values are no multiple of the ", info.name, " block of ",
                                 info.block_size));
  }
  return count / block_size * static_cast<std::uint64_t>(info.block_bytes);
}

}  // namespace perpend
