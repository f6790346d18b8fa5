#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "perpend/kernels/quantized.h"

namespace perpend {

// 32 activations, x = scale * quant with 12-bit quants, stored as two int8 terms, quant = 16 * high
// + low, so that byte dot products serve. One term alone (127 levels) changes about one greedy
// token in fifty; two change hardly any. A factor of 16 and no more, since 16 times a 4-bit weight
// is still a byte: both terms can then be summed in one register. The sums are what zero points and
// minima of weights need.
struct alignas(64) ActivationTerms {
  std::array<std::int8_t, 32> high;
  std::array<std::int8_t, 32> low;
};

struct ActivationFactors {
  static constexpr float kLargestQuant = 127 * 16;
  // Blocks below are zero, so that 1 / max can not overflow.
  static constexpr float kSmallestMaximum = 1e-30F;

  float scale = 0;
  std::int32_t sum = 0;  // of the quants
  float scaled_sum = 0;  // scale * sum
};

// Rows of activation blocks, one after another: [rows, blocks] each.
template <class Terms, class Factors>
struct ActivationRows {
  Terms* terms = nullptr;
  Factors* factors = nullptr;

  // The same from `count` blocks on.
  ActivationRows operator+(std::int64_t count) const { return {terms + count, factors + count}; }
};
using QuantizedRows = ActivationRows<const ActivationTerms, const ActivationFactors>;
using QuantizedRowsOut = ActivationRows<ActivationTerms, ActivationFactors>;

// The innermost loops of one instruction set. All sets compute the same f32 operations in the same
// order, so their results are equal bit for bit.
struct LinearMicro {
  // Around all other calls on one thread: registers that exist only on demand. Null where all are
  // always there.
  void (*acquire_registers)();
  void (*release_registers)();
  // One row of `in_features` (a multiple of 32) activations: scale = max |x| / kLargestQuant,
  // quants rounded to nearest even.
  void (*quantize_row)(const float* x, std::int64_t in_features, QuantizedRowsOut out);
  // tile[row][0..16) = one integer panel times num_rows rows of num_blocks activation blocks.
  void (*integer_panel)(PanelLayout layout, const std::byte* panel, std::int64_t num_blocks,
                        QuantizedRows rows, std::int64_t num_rows, float* tile);
  // tile[row][0..16) = one float panel times rows of x, x_stride floats apart.
  void (*float_panel)(PanelLayout layout, const std::byte* panel, std::int64_t in_features,
                      const float* x, std::int64_t x_stride, std::int64_t num_rows, float* tile);
};

const LinearMicro& linear_micro_scalar();
const LinearMicro& linear_micro_avx2();
const LinearMicro& linear_micro_avx512();
const LinearMicro& linear_micro_amx();

}  // namespace perpend
