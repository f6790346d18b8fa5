#pragma once

#include <cuda.h>

#include "perpend/kernels/cuda/device/shared_layout.h"
#include "tests/kernels/cuda/emulated/emulated_gpu.h"

namespace perpend::device {

inline std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(static_cast<const char*>(pointer) - memory);
}

inline void barrier_init(std::uint32_t barrier, int arrivals) {
  emulated_cta->barriers[barrier] = {.arrivals = arrivals, .pending = arrivals};
}
inline void fence_barrier_init() {}
// Bytes are awaited where they are announced, and may be there before.
inline void change_barrier(std::uint32_t address, int arrivals, long bytes) {
  EmulatedBarrier& barrier = emulated_cta->barrier_at(address);
  barrier.pending -= arrivals;
  barrier.bytes += bytes;
  if (barrier.pending < 0) throw std::logic_error("a barrier with too many arrivals");
  if (barrier.pending != 0 || barrier.bytes != 0) return;
  barrier.pending = barrier.arrivals;
  barrier.phase ^= 1U;
}
inline void barrier_arrive(std::uint32_t barrier) { change_barrier(barrier, 1, 0); }
inline void barrier_expect(std::uint32_t barrier, int bytes) { change_barrier(barrier, 1, bytes); }
inline void barrier_copied(std::uint32_t barrier, int bytes) { change_barrier(barrier, 0, -bytes); }
inline void barrier_wait(std::uint32_t address, std::uint32_t parity) {
  const EmulatedBarrier& barrier = emulated_cta->barrier_at(address);
  emulated_cta->threads.wait_until({"the barrier at", address},
                                   [&] { return barrier.phase != parity; });
}

inline MeetingPoint& named_barrier(int barrier, int threads) {
  return emulated_cta->named.try_emplace(static_cast<std::uint32_t>(barrier), threads)
      .first->second;
}
inline void named_barrier_sync(int barrier, int threads) {
  named_barrier(barrier, threads).meet({"named barrier", static_cast<std::uint32_t>(barrier)});
}
inline void named_barrier_arrive(int barrier, int threads) {
  named_barrier(barrier, threads).pass();
}

constexpr std::uint64_t kEvictFirst = 0;
constexpr std::uint64_t kEvictLast = 1;

struct BoxOrigin {
  int column;
  int head;
  int token;
  int batch;
};

inline void copy_box_now(std::uint32_t to, const CUtensorMap& map, BoxOrigin origin) {
  const int row_bytes = 2 * map.columns;
  int row = 0;
  for (int token = 0; token < map.tokens; ++token) {
    for (int head = 0; head < map.heads; ++head, ++row) {
      for (int c = 0; c < map.columns; ++c) {
        const std::int64_t at[4] = {origin.column + c, origin.head + head, origin.token + token,
                                    origin.batch};
        std::int64_t offset = 0;
        bool is_there = true;
        for (int axis = 0; axis < 4; ++axis) {
          is_there = is_there && at[axis] >= 0 && at[axis] < map.sizes[axis];
          offset += at[axis] * map.strides[axis];
        }
        const std::uint16_t value = is_there ? map.data[offset] : std::uint16_t{0};
        const std::uint32_t place =
            swizzled(to + static_cast<std::uint32_t>(row * row_bytes + 2 * c), row_bytes);
        std::memcpy(memory + place, &value, sizeof(value));
      }
    }
  }
}
inline void copy_box(std::uint32_t to, const CUtensorMap* map, BoxOrigin origin,
                     std::uint32_t barrier, std::uint64_t /*hint*/) {
  emulated_cta->threads.start([=] {
    copy_box_now(to, *map, origin);
    barrier_copied(barrier, map->tokens * map->heads * map->columns * 2);
  });
}
inline void copy_bytes(std::uint32_t to, const void* from, int bytes, std::uint32_t barrier) {
  emulated_cta->threads.start([=] {
    std::memcpy(memory + to, from, static_cast<std::size_t>(bytes));
    barrier_copied(barrier, bytes);
  });
}
inline void copy_word(std::uint32_t to, const void* from) {
  emulated_cta->own_queues().words.emplace_back([=] { std::memcpy(memory + to, from, 4); });
}
inline void barrier_arrive_behind_words(std::uint32_t barrier) {
  emulated_cta->threads.start(
      [barrier, words = std::exchange(emulated_cta->own_queues().words, {})] {
        for (const std::function<void()>& copy : words) copy();
        barrier_arrive(barrier);
      });
}
inline void add_bytes(float* to, std::uint32_t from, int bytes, std::uint64_t /*hint*/) {
  emulated_cta->own_queues().adds.add([=] {
    for (int i = 0; i < bytes / 4; ++i) {
      float value;
      std::memcpy(&value, memory + from + 4 * i, sizeof(value));
      to[i] += value;
    }
  });
}
inline void adds_commit() { emulated_cta->own_queues().adds.commit(emulated_cta->threads.toss()); }
inline void adds_wait_read() { emulated_cta->own_queues().adds.wait(0); }
inline void adds_wait() { emulated_cta->own_queues().adds.wait(0); }
inline void wait_for_count(const std::uint32_t* count, std::uint32_t value) {
  emulated_cta->threads.wait_until({"a turn after", value}, [&] { return *count == value; });
}
inline void raise_count(std::uint32_t* count) { ++*count; }
// Stores of what the engines alone read are done here, as late as they may be.
inline void fence_engines() {
  for (const std::function<void()>& store : std::exchange(emulated_cta->own_queues().stores, {})) {
    store();
  }
}
inline void store_shared_four(std::uint32_t to, float a, float b, float c, float d) {
  emulated_cta->own_queues().stores.emplace_back([=] {
    const float values[4] = {a, b, c, d};
    std::memcpy(memory + to, values, sizeof(values));
  });
}
inline void store_matrices(std::uint32_t to, const std::uint32_t* words) {
  struct Lane {
    std::uint32_t to;
    std::uint32_t words[4];
  };
  const Lane mine{to, {words[0], words[1], words[2], words[3]}};
  exchanged(mine, [](auto of_lane) {
    const unsigned lane = threadIdx.x % 32;
    for (unsigned i = 0; i < 4; ++i) {
      const std::uint32_t place = of_lane(8 * i + lane / 4).to + lane % 4 * 4;
      const std::uint32_t word = of_lane(lane).words[i];
      emulated_cta->own_queues().stores.emplace_back(
          [=] { std::memcpy(memory + place, &word, sizeof(word)); });
    }
    return 0;
  });
}
inline void prefetch_map(const CUtensorMap* /*map*/) {}
inline void prefetch_line(const void* /*address*/) {}
inline std::uint32_t load_shared_word(std::uint32_t from) {
  std::uint32_t word;
  std::memcpy(&word, memory + from, sizeof(word));
  return word;
}
inline void load_shared_words(std::uint32_t (&words)[2], std::uint32_t from) {
  std::memcpy(words, memory + from, sizeof(words));
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
inline void product_commit() {
  emulated_cta->own_queues().products.commit(emulated_cta->toss_for_warp());
}
template <int kPending>
void product_wait() {
  emulated_cta->wait_for_products(kPending);
}
template <int kCount>
void touch(float (&/*registers*/)[kCount]) {}
inline std::uint64_t descriptor(std::uint32_t low, std::uint32_t high) {
  return std::uint64_t{high} << 32 | low;
}
inline float exp2_approx(float x) { return std::exp2(x); }

}  // namespace perpend::device
