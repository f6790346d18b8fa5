#pragma once

#include <cuda.h>

#include "perpend/kernels/cuda/device/decode_image.h"
#include "perpend/kernels/cuda/device/forward_params.h"

namespace perpend::device {

// Tensor maps of the keys; boxes of one head's rows.
struct DecodeMaps {
  CUtensorMap k_step;  // of a contiguous step: `step_rows` keys
  CUtensorMap v_step;
  CUtensorMap k_box;  // of a gathered one: Lists::box_rows keys
  CUtensorMap v_box;
};

struct HopperDecodeParams {
  DecodeMaps maps;
  ForwardParams common;  // its lists.num_items is room, not what there is
  RowSource q;
  PageTable pages;
  const DecodeCounts* counts;
  SplitRows split;
  unsigned* counter;       // 0 before and after each launch
  std::int32_t step_rows;  // a step's or, of smaller pages, a page's share of it
};

struct SplitSumParams {
  Outputs outputs;
  const SplitSum* sums;
  const DecodeCounts* counts;
  SplitRows split;
  std::int32_t group_size;
  bool q_is_ragged;
};

}  // namespace perpend::device
