#pragma once

#include <cstddef>
#include <cstdint>

#include "perpend/kernels/quantized.h"

namespace perpend {

// Rows of activations, quantised in blocks of 32: x = scale * quant, with what the zero points and
// minima of weights need. Rows follow each other densely in each array.
struct QuantizedRows {
  const std::int8_t* quants = nullptr;  // [rows, in_features]
  const float* scales = nullptr;        // [rows, blocks]
  const std::int32_t* sums = nullptr;   // [rows, blocks] sum of the quants of a block
};

// The innermost loops of one instruction set. All sets compute the same f32 operations in the same
// order, so their results are equal bit for bit.
struct LinearMicro {
  // One row of `in_features` (a multiple of 32) activations: scale = max |x| / 127, quants rounded
  // to nearest even.
  void (*quantize_row)(const float* x, std::int64_t in_features, std::int8_t* quants, float* scales,
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
