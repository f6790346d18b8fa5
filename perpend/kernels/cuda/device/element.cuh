#pragma once

#include <cstdint>

// The 16-bit types of the operands.

namespace perpend::device {

struct Bf16 {
  // Two values in one register, `low` in the low half; rounds to nearest even.
  static __device__ __forceinline__ std::uint32_t pack(float low, float high) {
    std::uint32_t both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
  }
};

struct F16 {
  static __device__ __forceinline__ std::uint32_t pack(float low, float high) {
    std::uint32_t both;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
  }
};

}  // namespace perpend::device
