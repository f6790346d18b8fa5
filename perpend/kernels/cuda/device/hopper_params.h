#pragma once

#include <cuda.h>

#include "perpend/kernels/cuda/device/forward_params.h"

namespace perpend::device {

// Tensor maps of the operands; boxes of one head's or one group's rows.
struct HopperMaps {
  CUtensorMap q_separate;  // kPartRows queries of a head
  CUtensorMap q_packed;    // as many queries of all heads of a group as a part has
  CUtensorMap k_step;      // the keys of a contiguous step
  CUtensorMap v_step;
  CUtensorMap k_box;  // the keys of a gathered box
  CUtensorMap v_box;
};

struct HopperForwardParams {
  HopperMaps maps;
  ForwardParams common;
  unsigned* counter;  // 0 before and after each launch
};

}  // namespace perpend::device
