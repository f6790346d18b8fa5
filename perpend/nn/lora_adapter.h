#pragma once

#include <cstdint>

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

// A row of an embedding that takes the place of the model's.
struct TokenRow {
  std::int32_t token = 0;
  torch::Tensor values;  // [in_features] f32
};

}  // namespace perpend
