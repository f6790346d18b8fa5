#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/forward_params.h"

namespace perpend::device {

// An operand: [batch, tokens, heads, head_dim], or pages for the batch.
struct RowSource {
  const std::uint16_t* data;
  RowStrides strides;
  bool is_aligned;  // rows begin at multiples of 16 bytes and have whole chunks of them
};

struct PageTable {
  const std::int32_t* pages;  // [batch, stride]; null: keys are not paged
  std::int64_t stride;
  std::int32_t page_size;
};

struct PortableForwardParams {
  ForwardParams common;
  RowSource q;
  RowSource k;
  RowSource v;
  PageTable pages;
};

}  // namespace perpend::device
