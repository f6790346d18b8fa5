#pragma once

namespace perpend {

// 2^x for x in [-inf, 126], relative error below 2e-7; exactly 0 for x <= -127. A Taylor polynomial
// of degree 7 on [-1/2, 1/2], whose remainder is 5e-9.
template <class Vec>
Vec exp2(Vec x) {
  x = Vec::max(x, Vec::set1(-127.0F));
  const Vec whole = Vec::round(x);
  const Vec f = x - whole;
  Vec p = Vec::set1(1.52527338e-5F);
  p = Vec::fma(p, f, Vec::set1(1.54035304e-4F));
  p = Vec::fma(p, f, Vec::set1(1.33335581e-3F));
  p = Vec::fma(p, f, Vec::set1(9.61812911e-3F));
  p = Vec::fma(p, f, Vec::set1(5.55041087e-2F));
  p = Vec::fma(p, f, Vec::set1(2.40226507e-1F));
  p = Vec::fma(p, f, Vec::set1(6.93147181e-1F));
  p = Vec::fma(p, f, Vec::set1(1.0F));
  return p * Vec::power_of_two(whole);
}

}  // namespace perpend
