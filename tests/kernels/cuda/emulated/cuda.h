#pragma once

#include <cstdint>

// What a CUDA compiler knows without a header.
#include "tests/kernels/cuda/emulated/emulated_gpu.h"

// Stands for the driver's opaque map: what it was made of.
struct CUtensorMap {
  const std::uint16_t* data = nullptr;
  std::int64_t sizes[4] = {};    // columns, heads, tokens, batch
  std::int64_t strides[4] = {};  // in elements
  int columns = 0;               // of a box, as many as a row of a panel has
  int heads = 0;
  int tokens = 0;
};
