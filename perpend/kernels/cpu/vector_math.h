#pragma once

#include <cmath>
#include <type_traits>

namespace perpend {

// 2^x for x in [-inf, 126], but 0 below -126; exactly 1 for x = 0. Minimax polynomials of
// 2^x - 1 on [0, 1): relative error below 9e-8 for degree 5, 3e-6 for degree 4, which suits what is
// rounded to bf16 next.
template <int kDegree = 5, class Vec>
Vec exp2(Vec x) {
  static_assert(kDegree == 4 || kDegree == 5);
  if constexpr (std::is_same_v<typename Vec::Value, double>) {
    return Vec::map(x, x, [](double a, double) { return std::exp2(a); });
  } else {
    const Vec f = Vec::fraction(x);
    Vec p;
    if constexpr (kDegree == 5) {
      p = Vec::set1(1.867130072e-3F);
      p = Vec::fma(p, f, Vec::set1(9.017030316e-3F));
      p = Vec::fma(p, f, Vec::set1(5.579991311e-2F));
      p = Vec::fma(p, f, Vec::set1(2.401644502e-1F));
      p = Vec::fma(p, f, Vec::set1(6.931513118e-1F));
    } else {
      p = Vec::set1(1.342668429e-2F);
      p = Vec::fma(p, f, Vec::set1(5.224247419e-2F));
      p = Vec::fma(p, f, Vec::set1(2.412802048e-1F));
      p = Vec::fma(p, f, Vec::set1(6.930448449e-1F));
    }
    p = Vec::fma(p, f, Vec::set1(1.0F));
    return Vec::times_power_of_two(p, x);
  }
}

template <class Vec>
struct TanhAndSlope {
  Vec value;
  Vec slope;
};

// tanh x and its derivative, relative errors below 3e-7 and 1e-6. The value is that of its series
// where 1 - e^-2x would cancel; the slope is 4 e^-2x / (1 + e^-2x)^2, since 1 - tanh^2 x cancels
// where tanh is flat.
template <class Vec>
TanhAndSlope<Vec> tanh_and_slope(Vec x) {
  if constexpr (std::is_same_v<typename Vec::Value, double>) {
    return {Vec::map(x, x, [](double a, double) { return std::tanh(a); }),
            Vec::map(x, x, [](double a, double) { return 1 / (std::cosh(a) * std::cosh(a)); })};
  } else {
    const Vec size = Vec::max(x, Vec::zero() - x);
    const Vec e = exp2(size * Vec::set1(-2.88539008F));
    const Vec both = Vec::set1(1.0F) + e;
    const Vec large = (Vec::set1(1.0F) - e) / both;
    const Vec z = size * size;
    Vec p = Vec::set1(-5.704987128e-03F);
    p = Vec::fma(p, z, Vec::set1(2.063908736e-02F));
    p = Vec::fma(p, z, Vec::set1(-5.373971512e-02F));
    p = Vec::fma(p, z, Vec::set1(1.333144220e-01F));
    p = Vec::fma(p, z, Vec::set1(-3.333328194e-01F));
    const Vec small = Vec::fma(p * z, size, size);
    const Vec result = Vec::where_less(size, Vec::set1(0.625F), small, large);
    return {Vec::where_less(x, Vec::zero(), Vec::zero() - result, result),
            Vec::set1(4.0F) * e / (both * both)};
  }
}

template <class Vec>
Vec tanh(Vec x) {
  return tanh_and_slope(x).value;
}

}  // namespace perpend
