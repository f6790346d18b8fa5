#pragma once

#include <cuda.h>

#include "perpend/kernels/cuda/device/shared_layout.h"
#include "tests/kernels/cuda/emulated/emulated_gpu.h"

namespace perpend::device {

inline std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(static_cast<const char*>(pointer) - memory);
}

template <class Change>
void change_barrier(std::uint32_t address, Change change) {
  const std::scoped_lock lock(emulated_cta->mutex);
  EmulatedBarrier& barrier = emulated_cta->barriers[address];
  change(barrier);
  emulated_cta->settle(barrier);
}
inline void barrier_init(std::uint32_t barrier, int arrivals) {
  const std::scoped_lock lock(emulated_cta->mutex);
  EmulatedBarrier& made = emulated_cta->barriers[barrier];
  made.arrivals = made.pending = arrivals;
}
inline void fence_barrier_init() {}
inline void barrier_arrive(std::uint32_t barrier) {
  change_barrier(barrier, [](EmulatedBarrier& b) { --b.pending; });
}
inline void barrier_expect(std::uint32_t barrier, int bytes) {
  change_barrier(barrier, [&](EmulatedBarrier& b) {
    --b.pending;
    b.bytes += bytes;
  });
}
inline void barrier_copied(std::uint32_t barrier, int bytes) {
  change_barrier(barrier, [&](EmulatedBarrier& b) { b.bytes -= bytes; });
}
inline void barrier_wait(std::uint32_t address, std::uint32_t parity) {
  std::unique_lock lock(emulated_cta->mutex);
  EmulatedBarrier& barrier = emulated_cta->barriers[address];
  barrier.changed.wait(lock, [&] { return barrier.phase != parity; });
}

constexpr std::uint64_t kEvictFirst = 0;
constexpr std::uint64_t kEvictLast = 1;

struct BoxOrigin {
  int column;
  int head;
  int token;
  int batch;
};

inline void copy_box(std::uint32_t to, const CUtensorMap* map, BoxOrigin origin,
                     std::uint32_t barrier, std::uint64_t /*hint*/) {
  int row = 0;
  for (int token = 0; token < map->tokens; ++token) {
    for (int head = 0; head < map->heads; ++head, ++row) {
      for (int c = 0; c < 64; ++c) {
        const std::int64_t at[4] = {origin.column + c, origin.head + head, origin.token + token,
                                    origin.batch};
        std::int64_t offset = 0;
        bool is_there = true;
        for (int axis = 0; axis < 4; ++axis) {
          is_there = is_there && at[axis] >= 0 && at[axis] < map->sizes[axis];
          offset += at[axis] * map->strides[axis];
        }
        const std::uint16_t value = is_there ? map->data[offset] : std::uint16_t{0};
        const std::uint32_t place =
            swizzled(to + static_cast<std::uint32_t>(row * kRowBytes + 2 * c));
        std::memcpy(memory + place, &value, sizeof(value));
      }
    }
  }
  barrier_copied(barrier, row * kRowBytes);
}
inline void copy_bytes(std::uint32_t to, const void* from, int bytes, std::uint32_t barrier) {
  std::memcpy(memory + to, from, static_cast<std::size_t>(bytes));
  barrier_copied(barrier, bytes);
}
inline void copy_word(std::uint32_t to, const void* from) { std::memcpy(memory + to, from, 4); }
inline void barrier_arrive_behind_words(std::uint32_t barrier) { barrier_arrive(barrier); }
inline void fence_engines() {}
inline std::uint32_t load_shared_word(std::uint32_t from) {
  std::uint32_t word;
  std::memcpy(&word, memory + from, sizeof(word));
  return word;
}
inline float2 load_shared_pair(std::uint32_t from) {
  float2 pair;
  std::memcpy(&pair, memory + from, sizeof(pair));
  return pair;
}

template <int kRegisters>
void take_registers() {}
template <int kRegisters>
void give_registers() {}
inline void product_fence() {}
inline void product_commit() {}
template <int kPending>
void product_wait() {}
template <int kCount>
void touch(float (&/*registers*/)[kCount]) {}
inline std::uint64_t descriptor(std::uint32_t low, std::uint32_t high) {
  return std::uint64_t{high} << 32 | low;
}
inline float exp2_approx(float x) { return std::exp2(x); }

}  // namespace perpend::device
