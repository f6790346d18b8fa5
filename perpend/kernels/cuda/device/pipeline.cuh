#pragma once

#include <cstdint>

namespace perpend::device {

// Where a thread is in a ring of kStages buffers, each with a barrier for full and one for empty.
// The one who empties waits for full with `parity`, the one who fills for empty with the other, so
// that the first round of filling waits for nothing.
template <int kStages>
struct RingPlace {
  int stage = 0;
  std::uint32_t parity = 0;

  __device__ __forceinline__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

}  // namespace perpend::device
