#pragma once

namespace perpend::device {

struct Silu {
  __device__ float operator()(float x) const { return x / (1.0F + expf(-x)); }
};

struct Gelu {
  __device__ float operator()(float x) const { return 0.5F * x * (1.0F + erff(x * 0.70710678F)); }
};

// x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, where (1 + tanh y) / 2 = 1 / (1 + e^(-2 y))
struct GeluTanh {
  __device__ float operator()(float x) const {
    return x / (1.0F + expf(-1.59576912F * fmaf(0.044715F * x * x, x, x)));
  }
};

}  // namespace perpend::device
