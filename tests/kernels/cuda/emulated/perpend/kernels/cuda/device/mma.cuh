#pragma once

#include "perpend/kernels/cuda/device/wgmma.cuh"

namespace perpend::device {

template <class Element>
struct Mma {
  static void add(float* d, const std::uint32_t* a, std::uint32_t b0, std::uint32_t b1) {
    const RowsOfA<Element> left = rows_of_a<Element>(a);
    exchanged(FourWords{{b0, b1, 0, 0}}, [&](auto of_lane) {
      for (unsigned j = 0; j < 4; ++j) {
        const unsigned column = threadIdx.x % 4 * 2 + j % 2;
        for (unsigned k = 0; k < 16; ++k) {
          const std::uint32_t word = of_lane(column * 4 + k % 8 / 2).words[k / 8];
          d[j] += left.values[j / 2][k] * Element::value(word >> (16 * (k % 2)) & 0xffffU);
        }
      }
      return 0;
    });
  }
};

inline void load_matrices(std::uint32_t (&to)[4], const std::uint16_t* row) {
  exchanged(row, [&](auto of_lane) {
    const unsigned lane = threadIdx.x % 32;
    for (unsigned i = 0; i < 4; ++i) {
      const std::uint16_t* from = of_lane(8 * i + lane / 4) + lane % 4 * 2;
      to[i] = from[0] | static_cast<std::uint32_t>(from[1]) << 16;
    }
    return 0;
  });
}
inline void load_matrices_transposed(std::uint32_t (&to)[4], const std::uint16_t* row) {
  exchanged(row, [&](auto of_lane) {
    const unsigned lane = threadIdx.x % 32;
    for (unsigned i = 0; i < 4; ++i) {
      const std::uint16_t low = of_lane(8 * i + lane % 4 * 2)[lane / 4];
      const std::uint16_t high = of_lane(8 * i + lane % 4 * 2 + 1)[lane / 4];
      to[i] = low | static_cast<std::uint32_t>(high) << 16;
    }
    return 0;
  });
}
inline void copy_chunk(std::uint16_t* to, const std::uint16_t* from, bool is_there) {
  emulated_cta->own_queues().copies.add([=] {
    if (is_there) {
      std::memcpy(to, from, 16);
    } else {
      std::memset(to, 0, 16);
    }
  });
}
inline void copies_commit() {
  emulated_cta->own_queues().copies.commit(emulated_cta->threads.toss());
}
template <int kPending>
void copies_wait() {
  emulated_cta->own_queues().copies.wait(kPending);
}

}  // namespace perpend::device
