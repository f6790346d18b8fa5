#pragma once

#include <cuda.h>

#include "perpend/core/tensor_view.h"
#include "perpend/kernels/cuda/device/forward_params.h"

// Host views as emulated kernels are given them.

namespace perpend {

inline device::RowStrides emulated_strides(const TensorView& view) {
  if (view.num_axes() == 3) return {0, view.stride(0), view.stride(1)};
  return {view.stride(0), view.stride(1), view.stride(2)};
}

inline device::RowStrides emulated_lse_strides(const TensorView& view) {
  if (!view) return {};
  if (view.num_axes() == 2) return {0, view.stride(1), view.stride(0)};
  return {view.stride(0), view.stride(2), view.stride(1)};
}

// Of boxes of `heads` x `tokens` rows.
inline CUtensorMap emulated_map(const TensorView& view, int heads, int tokens) {
  const int last = view.num_axes() - 1;
  const bool ragged = view.num_axes() == 3;
  return {view.as<const std::uint16_t>(),
          {view.size(last), view.size(last - 1), view.size(last - 2), ragged ? 1 : view.size(0)},
          {1, view.stride(last - 1), view.stride(last - 2), ragged ? 0 : view.stride(0)},
          heads,
          tokens};
}

}  // namespace perpend
