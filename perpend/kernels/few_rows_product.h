#pragma once

#include "perpend/core/stream.h"
#include "perpend/core/tensor_view.h"

namespace perpend {

// out = x W^T (+ bias) (+ out) for the few rows of a decoding step, which the bytes of W bound, not
// the products: each value of W is read once, in an order that the number of rows does not change.
//   x       [rows, in_features] f16 or bf16, rows <= kMostRows, in_features a multiple of 8
//   weight  [out_features, in_features] of the type of x
//   bias    [out_features] of the type of x; may be absent
//   out     [rows, out_features] f32 or of the type of x; f32 where it is added to
// Last axes contiguous, rows of x and weight at multiples of 16 bytes. Sums in f32, in a fixed
// order: a row has the same bits whatever rows are beside it. The weight must have been there
// before the launch before this one began.
struct FewRowsProductArgs {
  static constexpr std::int64_t kMostRows = 4;

  TensorView x;
  TensorView weight;
  TensorView out;
  bool accumulate = false;
  TensorView bias = {};

  // Whether these operands are of the form above, but for the device.
  bool fits() const;
};

}  // namespace perpend
