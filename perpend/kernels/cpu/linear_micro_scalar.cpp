#include <array>
#include <cmath>
#include <cstring>

#include "perpend/core/half.h"
#include "perpend/kernels/cpu/linear_micro.h"
#include "perpend/kernels/cpu/panel.h"

namespace perpend {
namespace {

using panel::kBlock;
using panel::kRows;

std::uint16_t load_u16(const std::byte* from) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, from, 2);
  return bits;
}

void quantize_row(const float* x, std::int64_t in_features, QuantizedRowsOut out) {
  for (std::int64_t b = 0; b < in_features / kBlock; ++b, x += kBlock) {
    ActivationTerms& terms = out.terms[b];
    ActivationFactors& factors = out.factors[b];
    float largest = 0.0F;
    for (int i = 0; i < kBlock; ++i) largest = std::fmax(largest, std::fabs(x[i]));
    const float inverse = largest > ActivationFactors::kSmallestMaximum
                              ? ActivationFactors::kLargestQuant / largest
                              : 0.0F;
    factors.sum = 0;
    for (std::size_t i = 0; i < kBlock; ++i) {
      const auto quant = static_cast<std::int32_t>(std::nearbyint(x[i] * inverse));
      terms.high[i] = static_cast<std::int8_t>((quant + 8) >> 4);
      terms.low[i] = static_cast<std::int8_t>(quant - 16 * terms.high[i]);
      factors.sum += quant;
    }
    factors.scale = largest / ActivationFactors::kLargestQuant;
    factors.scaled_sum = factors.scale * static_cast<float>(factors.sum);
  }
}

unsigned quant_of(PanelLayout layout, const std::byte* block, int row, int column) {
  if (panel::has_nibbles(layout)) {
    const int low_column = column % 16;
    const auto byte =
        std::to_integer<unsigned>(block[(low_column / 4) * kRows * 4 + row * 4 + low_column % 4]);
    return column < 16 ? byte & 15U : byte >> 4;
  }
  return std::to_integer<unsigned>(block[(column / 4) * kRows * 4 + row * 4 + column % 4]);
}

void integer_panel(PanelLayout layout, const std::byte* panel_data, std::int64_t num_blocks,
                   QuantizedRows rows, std::int64_t num_rows, float* tile) {
  for (std::int64_t row = 0; row < num_rows; ++row) {
    std::array<float, kRows> sums{};
    for (std::int64_t b = 0; b < num_blocks; ++b) {
      const std::byte* block =
          panel_data + b * static_cast<std::int64_t>(panel::block_bytes(layout));
      const std::byte* scales = block + panel::quant_bytes(layout);
      const ActivationTerms& terms = rows.terms[row * num_blocks + b];
      const ActivationFactors& x = rows.factors[row * num_blocks + b];
      for (int r = 0; r < kRows; ++r) {
        std::int32_t dot = -panel::zero_point(layout) * x.sum;
        for (int column = 0; column < kBlock; ++column) {
          const auto at = static_cast<std::size_t>(column);
          dot += static_cast<std::int32_t>(quant_of(layout, block, r, column)) *
                 (16 * terms.high[at] + terms.low[at]);
        }
        float& sum = sums[static_cast<std::size_t>(r)];
        const float scale = f16_to_f32(load_u16(scales + 2 * r)) * x.scale;
        sum = std::fma(static_cast<float>(dot), scale, sum);
        if (panel::has_min(layout)) {
          const float min = f16_to_f32(load_u16(scales + panel::kScaleBytes + 2 * r));
          sum = std::fma(min, x.scaled_sum, sum);
        }
      }
    }
    std::memcpy(tile + row * kRows, sums.data(), sizeof(sums));
  }
}

float load_weight(PanelLayout layout, const std::byte* panel_data, std::int64_t index) {
  if (layout == PanelLayout::kF32) {
    float value = 0.0F;
    std::memcpy(&value, panel_data + index * 4, 4);
    return value;
  }
  const std::uint16_t bits = load_u16(panel_data + index * 2);
  return layout == PanelLayout::kF16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

void float_panel(PanelLayout layout, const std::byte* panel_data, std::int64_t in_features,
                 const float* x, std::int64_t x_stride, std::int64_t num_rows, float* tile) {
  for (std::int64_t row = 0; row < num_rows; ++row) {
    std::array<float, kRows> sums{};
    for (std::int64_t column = 0; column < in_features; ++column) {
      const float value = x[row * x_stride + column];
      for (int r = 0; r < kRows; ++r) {
        float& sum = sums[static_cast<std::size_t>(r)];
        sum = std::fma(load_weight(layout, panel_data, column * kRows + r), value, sum);
      }
    }
    std::memcpy(tile + row * kRows, sums.data(), sizeof(sums));
  }
}

}  // namespace

const LinearMicro& linear_micro_scalar() {
  static constexpr LinearMicro kMicro{nullptr, nullptr, quantize_row, integer_panel, float_panel};
  return kMicro;
}

}  // namespace perpend
