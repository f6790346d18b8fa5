#pragma once

#include <cstddef>
#include <cstdint>

#include "perpend/kernels/quantized.h"

namespace perpend {

// Rows of activations, quantised in blocks of 32: x = scale * quant with 16-bit quants, stored as
// two int8 terms, quant = 256 * high + low, so that byte dot products serve. One term alone (127
// levels) changes about one greedy token in fifty; two cost one more instruction a step and change
// none that f32 sums would not. `sums` is what the zero points and minima of weights need. Rows
// follow each other densely in each array.
struct QuantizedRows {
  static constexpr int kTermBytes = 32;               // a block's high terms, then its low terms
  static constexpr int kBlockBytes = 2 * kTermBytes;  // one cache line
  static constexpr float kLargestQuant = 127 * 256;
  static constexpr float kSmallestMaximum =
      1e-30F;  // blocks below are zero: no overflow of 1 / max

  const std::int8_t* terms = nullptr;  // [rows, blocks, 2, 32]
  const float* scales = nullptr;       // [rows, blocks]
  const std::int32_t* sums = nullptr;  // [rows, blocks] sum of the quants of a block
};

// The innermost loops of one instruction set. All sets compute the same f32 operations in the same
// order, so their results are equal bit for bit.
struct LinearMicro {
  // One row of `in_features` (a multiple of 32) activations: scale = max |x| / kLargestQuant,
  // quants rounded to nearest even.
  void (*quantize_row)(const float* x, std::int64_t in_features, std::int8_t* terms, float* scales,
                       std::int32_t* sums);
  // tile[row][0..16) = one integer panel times `num_rows` rows.
  void (*integer_panel)(PanelLayout layout, const std::byte* panel, std::int64_t num_blocks,
                        const QuantizedRows& rows, std::int64_t num_rows, float* tile);
  // tile[row][0..16) = one float panel times rows of x, x_stride floats apart.
  void (*float_panel)(PanelLayout layout, const std::byte* panel, std::int64_t in_features,
                      const float* x, std::int64_t x_stride, std::int64_t num_rows, float* tile);
};

const LinearMicro& linear_micro_scalar();
const LinearMicro& linear_micro_avx2();
const LinearMicro& linear_micro_avx512();

}  // namespace perpend
