#pragma once

#include <cstdint>

#include <cuda.h>

#include "perpend/core/tensor_view.h"

namespace perpend {

// The rows of an operand as a tensor-memory load sees them: the batch axis is 1 for ragged
// operands.
struct BoxView {
  void* data = nullptr;
  DType dtype = DType::kBF16;
  std::int64_t head_dim = 0;
  std::int64_t heads = 0;
  std::int64_t tokens = 0;
  std::int64_t batch = 0;
  std::int64_t head_stride = 0;  // in elements
  std::int64_t token_stride = 0;
  std::int64_t batch_stride = 0;
};

// [batch, tokens, heads, head_dim] or, ragged, [tokens, heads, head_dim].
BoxView box_view(const TensorView& view);

// Whether the copy engine can load from it: 16-byte rows that begin at multiples of 16 bytes.
bool can_map(const BoxView& view);

// The map of boxes of `tokens` x `heads` rows and a panel of columns (device/shared_layout.h),
// token by token; columns behind head_dim and tokens behind the last are zero. row_bytes: of a
// panel of the kernel that reads them. Throws DeviceError when the driver refuses.
CUtensorMap make_tensor_map(const BoxView& view, int heads, int tokens, int row_bytes);
// For a kernel of the operand's own head_dim.
CUtensorMap make_tensor_map(const BoxView& view, int heads, int tokens);

}  // namespace perpend
