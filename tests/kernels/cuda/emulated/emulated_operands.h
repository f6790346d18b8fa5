#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <cuda.h>

#include "perpend/kernels/cuda/device/forward_params.h"
#include "perpend/kernels/cuda/device/shared_layout.h"
#include "perpend/kernels/cuda/schedule_image.h"
#include "perpend/kernels/reference/attention_call.h"
#include "perpend/mask/bindings.h"

// Operands of a case as the emulated kernels are given them.

namespace perpend {

inline device::RowStrides row_strides(const TensorView& view) {
  if (view.num_axes() == 3) return {0, view.stride(0), view.stride(1)};
  return {view.stride(0), view.stride(1), view.stride(2)};
}
inline device::RowStrides lse_strides(const TensorView& view) {
  if (!view) return {};
  if (view.num_axes() == 2) return {0, view.stride(1), view.stride(0)};
  return {view.stride(0), view.stride(2), view.stride(1)};
}

// Boxes of `tokens` x `heads` rows; row_bytes: of a panel of the kernel that reads them.
inline CUtensorMap map_of(const TensorView& view, int heads, int tokens, int row_bytes) {
  const int last = view.num_axes() - 1;
  const bool ragged = view.num_axes() == 3;
  return {view.as<const std::uint16_t>(),
          {view.size(last), view.size(last - 1), view.size(last - 2), ragged ? 1 : view.size(0)},
          {1, view.stride(last - 1), view.stride(last - 2), ragged ? 0 : view.stride(0)},
          row_bytes / 2,
          heads,
          tokens};
}
// For a kernel of the operand's own head_dim.
inline CUtensorMap map_of(const TensorView& view, int heads, int tokens) {
  return map_of(view, heads, tokens,
                device::row_bytes(static_cast<int>(view.size(view.num_axes() - 1))));
}

inline device::Lists lists_of(const ScheduleImage& image, int group_size) {
  return {image.items.data(),
          image.steps.data(),
          image.sub_tiles.data(),
          image.bitmaps.data(),
          static_cast<std::int32_t>(image.items.size()),
          group_size,
          image.box_rows};
}

// Makes NaN of the tokens [begin, end) of a ragged operand.
inline void poison(const TensorView& view, std::int64_t begin, std::int64_t end) {
  constexpr std::uint16_t kNaN = 0x7fff;
  for (std::int64_t token = begin; token < end; ++token) {
    for (std::int64_t head = 0; head < view.size(1); ++head) {
      auto* row = view.as<std::uint16_t>() + token * view.stride(0) + head * view.stride(1);
      std::fill_n(row, view.size(2), kNaN);
    }
  }
}

inline AttentionCase make_case(const std::string& mask, std::vector<SequenceShape> sequences,
                               int heads, int kv_heads, std::int64_t head_dim) {
  AttentionCase c;
  c.masks = {parse_mask(mask)};
  c.shape = {std::move(sequences), heads, kv_heads};
  c.head_dim = head_dim;
  c.q_dtype = c.kv_dtype = DType::kBF16;
  return c;
}

// Three sequences, of which tiles that the end of one cuts hold rows of the next.
inline AttentionCase case_of_neighbours(const std::string& mask, std::int64_t head_dim) {
  AttentionCase c = make_case(mask, {{100, 140, 40}, {50, 50, 0}, {70, 150, 80}}, 4, 2, head_dim);
  c.layout.ragged = true;
  return c;
}

}  // namespace perpend
