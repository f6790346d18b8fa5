#pragma once

#include <cstdint>

namespace perpend::device {

// The items of a launch, of which each worker takes first the one of its own number, then the next
// that none has taken, by a counter that the workers share. The counter is 0 again when the last
// worker has seen its end: each item is followed by one addition of its worker.
struct ItemPool {
  unsigned* counter;
  std::int32_t num_items;
  std::int32_t num_workers;

  __device__ __forceinline__ std::int32_t take() const {
    return num_workers + static_cast<std::int32_t>(atomicAdd(counter, 1U));
  }
  __device__ __forceinline__ bool is_end(std::int32_t index) const { return index >= num_items; }
  // Whether more than `count` items of each worker are left behind this one.
  __device__ __forceinline__ bool are_plenty_left(std::int32_t index, std::int32_t count) const {
    return index < num_items - count * num_workers;
  }
  // To be called by each worker once, with the index that is its end.
  __device__ __forceinline__ void finish(std::int32_t index) const {
    if (index - num_workers == num_items - 1) *counter = 0;
  }
};

}  // namespace perpend::device
