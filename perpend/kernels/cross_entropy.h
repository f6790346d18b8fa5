#pragma once

#include "perpend/core/stream.h"
#include "perpend/core/tensor_view.h"

namespace perpend {

// losses = weights * (logsumexp(logits) - logits[targets]), row by row, and its gradient by the
// logits in their place: weights * (softmax(logits) - 1 at the target).
//   logits   [rows, vocab_size] f16 or bf16, dense, overwritten; exponentials and sums are f32
//   targets  [rows] i64, in [0, vocab_size), which only the device can look at
//   weights  [rows] f32
//   losses   [rows] f32
struct CrossEntropyArgs {
  TensorView logits;
  TensorView targets;
  TensorView weights;
  TensorView losses;
};

}  // namespace perpend
