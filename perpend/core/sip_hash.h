#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace perpend {

// A digest of 128 bits: equal digests mean equal inputs for all practical purposes.
struct Digest {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  friend bool operator==(const Digest&, const Digest&) = default;
};

// SipHash-2-4 with 128 bits of output (Aumasson and Bernstein, 2012) over 64-bit words. With a key
// that nobody knows, inputs with equal digests can not be made on purpose.
class SipHash {
 public:
  SipHash(std::uint64_t key0, std::uint64_t key1)
      : v_{key0 ^ 0x736f6d6570736575, key1 ^ 0x646f72616e646f6d ^ 0xee, key0 ^ 0x6c7967656e657261,
           key1 ^ 0x7465646279746573} {}

  void add(std::uint64_t word) {
    v_[3] ^= word;
    rounds(2);
    v_[0] ^= word;
    num_bytes_ += 8;
  }
  void add(const Digest& digest) {
    add(digest.low);
    add(digest.high);
  }

  Digest finish() {
    add(num_bytes_ << 56);
    v_[2] ^= 0xee;
    rounds(4);
    Digest digest;
    digest.low = v_[0] ^ v_[1] ^ v_[2] ^ v_[3];
    v_[1] ^= 0xdd;
    rounds(4);
    digest.high = v_[0] ^ v_[1] ^ v_[2] ^ v_[3];
    return digest;
  }

 private:
  void rounds(int count) {
    for (int i = 0; i < count; ++i) {
      v_[0] += v_[1];
      v_[1] = std::rotl(v_[1], 13) ^ v_[0];
      v_[0] = std::rotl(v_[0], 32);
      v_[2] += v_[3];
      v_[3] = std::rotl(v_[3], 16) ^ v_[2];
      v_[0] += v_[3];
      v_[3] = std::rotl(v_[3], 21) ^ v_[0];
      v_[2] += v_[1];
      v_[1] = std::rotl(v_[1], 17) ^ v_[2];
      v_[2] = std::rotl(v_[2], 32);
    }
  }

  std::array<std::uint64_t, 4> v_;
  std::uint64_t num_bytes_ = 0;
};

}  // namespace perpend
