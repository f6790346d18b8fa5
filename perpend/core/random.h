#pragma once

#include <array>
#include <cstdint>

namespace perpend {

// Philox4x32-10 (Salmon et al., SC 2011): a counter-based generator, so that the n-th draw of a
// seed and a stream is the same on every device, whoever shares the batch. Not for secrets.
class Random {
 public:
  explicit Random(std::uint64_t seed, std::uint64_t stream = 0) : seed_(seed), stream_(stream) {}

  // Uniform over all 32-bit values.
  std::uint32_t next_u32() {
    if (used_ == 4) refill();
    return block_[static_cast<std::size_t>(used_++)];
  }
  std::uint64_t next_u64() {
    const std::uint64_t high = next_u32();
    return (high << 32) | next_u32();
  }
  // Uniform in [0, 1), 24 and 53 random bits.
  float next_float() { return static_cast<float>(next_u32() >> 8) * 0x1p-24F; }
  double next_double() { return static_cast<double>(next_u64() >> 11) * 0x1p-53; }
  // Uniform in [0, bound), bound > 0 (the bias is below bound / 2^64).
  std::uint64_t next_below(std::uint64_t bound) { return next_u64() % bound; }

 private:
  void refill() {
    std::array<std::uint32_t, 4> x = {
        static_cast<std::uint32_t>(counter_), static_cast<std::uint32_t>(counter_ >> 32),
        static_cast<std::uint32_t>(stream_), static_cast<std::uint32_t>(stream_ >> 32)};
    auto key0 = static_cast<std::uint32_t>(seed_);
    auto key1 = static_cast<std::uint32_t>(seed_ >> 32);
    for (int round = 0; round < 10; ++round) {
      const std::uint64_t a = std::uint64_t{0xD2511F53U} * x[0];
      const std::uint64_t b = std::uint64_t{0xCD9E8D57U} * x[2];
      x = {static_cast<std::uint32_t>(b >> 32) ^ x[1] ^ key0, static_cast<std::uint32_t>(b),
           static_cast<std::uint32_t>(a >> 32) ^ x[3] ^ key1, static_cast<std::uint32_t>(a)};
      key0 += 0x9E3779B9U;
      key1 += 0xBB67AE85U;
    }
    block_ = x;
    used_ = 0;
    ++counter_;
  }

  std::uint64_t seed_;
  std::uint64_t stream_;
  std::uint64_t counter_ = 0;
  std::array<std::uint32_t, 4> block_{};
  int used_ = 4;
};

}  // namespace perpend
