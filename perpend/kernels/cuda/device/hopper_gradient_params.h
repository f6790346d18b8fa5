#pragma once

#include <cuda.h>

#include "perpend/kernels/cuda/device/gradient_params.h"

namespace perpend::device {

// Tensor maps of the operands of a pass: k and v, or q and d_o.
struct GradientMaps {
  CUtensorMap outer_separate[2];  // kPartRows rows of a head
  CUtensorMap outer_packed[2];    // as many queries of all heads of a group as a part has
  CUtensorMap inner_step[2];      // the rows of a contiguous step
  CUtensorMap inner_box[2];       // the rows of a gathered box
};

template <class Pass>
struct HopperGradientParams {
  GradientMaps maps;
  GradientParams common;
  Pass pass;
  unsigned* counter;  // 0 before and after each launch
};

}  // namespace perpend::device
