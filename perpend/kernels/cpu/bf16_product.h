#pragma once

#include <cstddef>
#include <span>

// Products of bf16 matrices, 32 x 32 sums at a time, of the instruction sets that multiply pairs of
// bf16. Operands are made of blocks of 2 KB, which bring 32 inner values each:
//   left   32 rows of 32 values
//   right  16 pairs of values by 32 columns, the two values of a pair side by side

namespace perpend::bf16 {

constexpr int kBlockBytes = 2048;

// sums[32][32] = (or +=) left blocks times right blocks.
struct BlockProduct {
  std::span<const std::byte* const> left;
  std::span<const std::byte* const> right;  // as many
  float* sums;
};

}  // namespace perpend::bf16
