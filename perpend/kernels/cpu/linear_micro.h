#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "perpend/kernels/quantized.h"

namespace perpend {

// 32 activations, x = scale * quant with 16-bit quants, stored as two int8 terms, quant = 256 *
// high + low, so that byte dot products serve. One term alone (127 levels) changes about one greedy
// token in fifty; two cost one more instruction a step and change hardly any. The sums are what
// zero points and minima of weights need.
struct alignas(16) ActivationBlock {
  static constexpr float kLargestQuant = 127 * 256;
  // Blocks below are zero, so that 1 / max can not overflow.
  static constexpr float kSmallestMaximum = 1e-30F;

  std::array<std::int8_t, 32> high;
  std::array<std::int8_t, 32> low;
  float scale;
  std::int32_t sum;  // of the quants
  float scaled_sum;  // scale * sum
};

// The innermost loops of one instruction set. All sets compute the same f32 operations in the same
// order, so their results are equal bit for bit.
struct LinearMicro {
  // One row of `in_features` (a multiple of 32) activations: scale = max |x| / kLargestQuant,
  // quants rounded to nearest even.
  void (*quantize_row)(const float* x, std::int64_t in_features, ActivationBlock* blocks);
  // tile[row][0..16) = one integer panel times num_rows rows of num_blocks activation blocks.
  void (*integer_panel)(PanelLayout layout, const std::byte* panel, std::int64_t num_blocks,
                        const ActivationBlock* rows, std::int64_t num_rows, float* tile);
  // tile[row][0..16) = one float panel times rows of x, x_stride floats apart.
  void (*float_panel)(PanelLayout layout, const std::byte* panel, std::int64_t in_features,
                      const float* x, std::int64_t x_stride, std::int64_t num_rows, float* tile);
};

const LinearMicro& linear_micro_scalar();
const LinearMicro& linear_micro_avx2();
const LinearMicro& linear_micro_avx512();
const LinearMicro& linear_micro_amx();

}  // namespace perpend
