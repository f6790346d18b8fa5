#pragma once

#include <cstddef>
#include <cstdint>

#include "perpend/core/dtype.h"
#include "perpend/kernels/gated_mlp.h"
#include "perpend/kernels/rotary.h"
#include "perpend/kernels/vocabulary.h"

namespace perpend {

// The row-wise loops of one instruction set; each handles one row.
struct RowMicro {
  // x += residual (when not null); out = x / rms(x) * weight.
  void (*rms_norm)(float* x, const float* residual, const float* weight, float epsilon,
                   std::int64_t dim, float* out);
  // Turns the first 2 * half values of one head in place.
  void (*rotate)(RotaryLayout layout, const float* cos, const float* sin, int half, float* head);
  // f32 values into `to` as f32, f16 or bf16.
  void (*store)(DType dtype, const float* values, int count, std::byte* to);
  // out = activation(gate) * up.
  void (*gated)(Activation activation, const float* gate, const float* up, std::int64_t count,
                float* out);
  VocabularySummary (*summarize)(const float* logits, std::int64_t count);
};

const RowMicro& row_micro_scalar();
const RowMicro& row_micro_avx2();
const RowMicro& row_micro_avx512();

}  // namespace perpend
