#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/forward_params.h"

namespace perpend::device {

struct PortableForwardParams {
  ForwardParams common;
  RowSource q;
  RowSource k;
  RowSource v;
  PageTable pages;
};

}  // namespace perpend::device
