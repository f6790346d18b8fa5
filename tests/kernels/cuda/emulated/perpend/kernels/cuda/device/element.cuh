#pragma once

#include "tests/kernels/cuda/emulated/emulated_gpu.h"

namespace perpend::device {

struct Bf16 {
  static std::uint32_t pack(float low, float high) { return bits(low) | bits(high) << 16; }
  static float value(std::uint32_t bits) {
    const std::uint32_t wide = bits << 16;
    float x;
    std::memcpy(&x, &wide, sizeof(x));
    return x;
  }

 private:
  static std::uint32_t bits(float x) {
    std::uint32_t wide;
    std::memcpy(&wide, &x, sizeof(wide));
    if (x != x) return 0x7fff;
    return (wide + 0x7fff + (wide >> 16 & 1U)) >> 16;
  }
};

}  // namespace perpend::device
