#pragma once

#include "perpend/kernels/cuda/device/gradient_params.h"
#include "perpend/kernels/cuda/device/portable_params.h"

namespace perpend::device {

template <class Pass>
struct PortableGradientParams {
  GradientParams common;
  Pass pass;
  RowSource outer[2];  // q and d_o, or k and v
  RowSource inner[2];  // k and v, or q and d_o
};

}  // namespace perpend::device
