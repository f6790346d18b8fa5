#pragma once

#include <torch/types.h>

namespace perpend {

// A low-rank addition to some of the outputs of a Linear (arXiv:2106.09685):
//   y[first_output ...] += scale * up (down x)
struct LoraAdapter {
  torch::Tensor down;  // [rank, in_features]
  torch::Tensor up;    // [outputs, rank]
  std::int64_t first_output = 0;
  double scale = 1.0;
};

}  // namespace perpend
