#pragma once

#include <cstddef>

// Products of bf16 matrices, 32 x 32 sums at a time, of the instruction sets that multiply pairs of
// bf16. Operands are made of blocks of 2 KB, which bring 32 inner values each:
//   left   32 rows of 32 values
//   right  16 pairs of values by 32 columns, the two values of a pair side by side

namespace perpend::bf16 {

constexpr int kBlockBytes = 2048;

struct Blocks {
  std::size_t count;
  const std::byte* const* left;
  const std::byte* const* right;
};

// sums[32][32] = (or, with `add`, +=) left blocks times right blocks.
using Product = void (*)(const Blocks& blocks, bool add, float* sums);
void product_avx512(const Blocks& blocks, bool add, float* sums);
void product_amx(const Blocks& blocks, bool add, float* sums);

// Around all products by AMX on one thread.
void acquire_amx();
void release_amx();

}  // namespace perpend::bf16
