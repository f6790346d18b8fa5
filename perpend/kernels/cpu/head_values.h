#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "perpend/core/half.h"
#include "perpend/core/tensor_view.h"

namespace perpend {

// Partial sums apart, so that the loop runs in vector registers without reordering any sum.
inline float dot(const float* a, const float* b, std::int64_t count) {
  constexpr std::int64_t kLanes = 16;
  std::array<float, kLanes> sums{};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      sums[static_cast<std::size_t>(lane)] += a[i + lane] * b[i + lane];
    }
  }
  for (; i < count; ++i) sums[0] += a[i] * b[i];
  float total = 0.0F;
  for (const float sum : sums) total += sum;
  return total;
}

// The values of f32, f16 or bf16 that begin at index `first` of a view's memory, as f32.
inline void widen(const TensorView& view, std::int64_t first, std::span<float> to) {
  if (view.dtype == DType::kF32) {
    std::copy_n(view.as<const float>() + first, to.size(), to.begin());
    return;
  }
  const auto* bits = view.as<const std::uint16_t>() + first;
  std::transform(bits, bits + to.size(), to.begin(),
                 view.dtype == DType::kF16 ? f16_to_f32 : bf16_to_f32);
}

// Scores become weights that sum to 1.
inline void soften(std::span<float> scores) {
  const float max = *std::ranges::max_element(scores);
  double sum = 0.0;
  for (float& score : scores) {
    score = std::exp(score - max);
    sum += score;
  }
  const auto inverse = static_cast<float>(1.0 / sum);
  for (float& score : scores) score *= inverse;
}

}  // namespace perpend
