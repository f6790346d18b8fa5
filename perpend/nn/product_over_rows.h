#pragma once

#include <cstdint>

#include <torch/types.h>

namespace perpend {

// a^T b, of the type of both: the gradient of a weight, a sum over rows.
//   a [rows, m], b [rows, n]: rows may lie apart, columns not
// Where m and n are small beside the rows, as those of adapters are, the few tiles of the answer
// leave most of a GPU idle; rows are then taken in `num_parts` equal parts side by side, whose sums
// are added in f32 at least. 0: as many as suit the device.
torch::Tensor product_over_rows(const torch::Tensor& a, const torch::Tensor& b,
                                std::int64_t num_parts = 0);

}  // namespace perpend
