#pragma once

#include <algorithm>
#include <cstdint>
#include <ostream>

namespace perpend {

// Half-open interval of integers [begin, end); empty when end <= begin.
struct Range {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  constexpr std::int64_t size() const { return end > begin ? end - begin : 0; }
  constexpr bool empty() const { return end <= begin; }
  constexpr bool contains(std::int64_t x) const { return begin <= x && x < end; }
  friend constexpr bool operator==(const Range&, const Range&) = default;
};

constexpr Range intersect(Range a, Range b) {
  return {std::max(a.begin, b.begin), std::min(a.end, b.end)};
}

inline std::ostream& operator<<(std::ostream& out, const Range& range) {
  return out << "[" << range.begin << ", " << range.end << ")";
}

// a / b for a >= 0 and b > 0. Positions fit in 32 bits, which many processors divide in a fraction
// of the time that 64 take.
constexpr std::int64_t quotient(std::int64_t a, std::int64_t b) {
  if (((a | b) >> 32) != 0) return a / b;
  return static_cast<std::uint32_t>(a) / static_cast<std::uint32_t>(b);
}
// Division that rounds up, and floor division (towards minus infinity), for divisor > 0.
constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return a >= 0 ? quotient(a + b - 1, b) : -quotient(-a, b);
}
constexpr std::int64_t floor_div(std::int64_t a, std::int64_t b) {
  return a >= 0 ? quotient(a, b) : -quotient(-a + b - 1, b);
}
constexpr std::int64_t round_up(std::int64_t a, std::int64_t b) { return ceil_div(a, b) * b; }

}  // namespace perpend
