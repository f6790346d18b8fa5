#pragma once

#include <cstddef>
#include <cstdint>

namespace perpend {

// Folds integers, in order, into one well-mixed word.
class HashMix {
 public:
  explicit HashMix(std::uint64_t seed) : value_(seed * 0x9E3779B97F4A7C15U) {}

  HashMix& add(std::uint64_t part) {
    value_ = (value_ ^ part) * 0xFF51AFD7ED558CCDU;
    value_ ^= value_ >> 32;
    return *this;
  }
  HashMix& add(std::int64_t part) { return add(static_cast<std::uint64_t>(part)); }
  std::size_t value() const { return value_; }

 private:
  std::uint64_t value_;
};

}  // namespace perpend
