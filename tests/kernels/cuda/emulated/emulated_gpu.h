#pragma once

#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

// As much of a GPU as the attention kernels need, on a CPU: each thread of a CTA is a thread here,
// CTAs run one after another, and what is asynchronous on a GPU is done at once. Tells whether
// places, phases and values are right, not whether a wait is missing.

#define __device__
#define __global__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __shared__
#define __align__(bytes)

struct EmulatedIndex {
  unsigned x = 0;
};
inline thread_local EmulatedIndex threadIdx;
inline EmulatedIndex blockIdx;
inline EmulatedIndex gridDim;

struct float2 {
  float x, y;
};
struct uint4 {
  std::uint32_t x, y, z, w;
};
inline uint4 make_uint4(std::uint32_t x, std::uint32_t y, std::uint32_t z, std::uint32_t w) {
  return {x, y, z, w};
}

namespace perpend::device {

inline constexpr std::size_t kEmulatedShared = 232448;
alignas(1024) inline char memory[kEmulatedShared];
alignas(1024) inline std::uint16_t shared_values[kEmulatedShared / 2];

// Threads that meet again and again.
class MeetingPoint {
 public:
  explicit MeetingPoint(int count = 32) : count_(count) {}
  void meet() {
    std::unique_lock lock(mutex_);
    const std::uint64_t round = round_;
    if (++here_ == count_) {
      here_ = 0;
      ++round_;
      all_here_.notify_all();
      return;
    }
    all_here_.wait(lock, [&] { return round_ != round; });
  }

 private:
  int count_;
  int here_ = 0;
  std::uint64_t round_ = 0;
  std::mutex mutex_;
  std::condition_variable all_here_;
};

struct EmulatedWarp {
  MeetingPoint point;
  std::uint64_t words[32][8];
};

struct EmulatedBarrier {
  int arrivals = 0;
  int pending = 0;
  long bytes = 0;
  std::uint32_t phase = 0;
  std::condition_variable changed;
};

struct EmulatedCta {
  explicit EmulatedCta(int threads) : all(threads), warps(static_cast<std::size_t>(threads) / 32) {}

  MeetingPoint all;
  std::vector<EmulatedWarp> warps;
  std::mutex mutex;
  std::map<std::uint32_t, EmulatedBarrier> barriers;

  void settle(EmulatedBarrier& barrier) {
    if (barrier.pending != 0 || barrier.bytes != 0) return;
    barrier.pending = barrier.arrivals;
    barrier.phase ^= 1U;
    barrier.changed.notify_all();
  }
};
inline EmulatedCta* emulated_cta;

inline EmulatedWarp& emulated_warp() { return emulated_cta->warps[threadIdx.x / 32]; }

// What all lanes of this warp have put in.
template <class T, class Read>
auto exchanged(const T& mine, Read read) {
  static_assert(sizeof(T) <= sizeof(EmulatedWarp::words[0]));
  EmulatedWarp& warp = emulated_warp();
  std::memcpy(warp.words[threadIdx.x % 32], &mine, sizeof(T));
  warp.point.meet();
  const auto of_lane = [&](unsigned lane) {
    T value;
    std::memcpy(&value, warp.words[lane], sizeof(T));
    return value;
  };
  const auto result = read(of_lane);
  warp.point.meet();
  return result;
}

// Runs kernel() as a grid.
inline void run_emulated(int num_ctas, int threads, const std::function<void()>& kernel) {
  gridDim.x = static_cast<unsigned>(num_ctas);
  for (int cta = 0; cta < num_ctas; ++cta) {
    blockIdx.x = static_cast<unsigned>(cta);
    // Of shared memory nothing is known: NaN in every type.
    std::memset(memory, 0xff, sizeof(memory));
    std::memset(shared_values, 0xff, sizeof(shared_values));
    EmulatedCta here(threads);
    emulated_cta = &here;
    std::vector<std::thread> running;
    for (int t = 0; t < threads; ++t) {
      running.emplace_back([&, t] {
        threadIdx.x = static_cast<unsigned>(t);
        kernel();
      });
    }
    for (std::thread& thread : running) thread.join();
  }
}

}  // namespace perpend::device

inline void __syncthreads() { perpend::device::emulated_cta->all.meet(); }
inline void __syncwarp() { perpend::device::emulated_warp().point.meet(); }
template <class T>
T __shfl_sync(unsigned /*mask*/, T value, int lane) {
  return perpend::device::exchanged(
      value, [&](auto of_lane) { return of_lane(static_cast<unsigned>(lane)); });
}
template <class T>
T __shfl_xor_sync(unsigned /*mask*/, T value, int step) {
  return perpend::device::exchanged(
      value, [&](auto of_lane) { return of_lane(threadIdx.x % 32 ^ static_cast<unsigned>(step)); });
}
inline int __any_sync(unsigned /*mask*/, bool value) {
  return perpend::device::exchanged(value, [](auto of_lane) {
    int any = 0;
    for (unsigned lane = 0; lane < 32; ++lane) any |= of_lane(lane) ? 1 : 0;
    return any;
  });
}
inline unsigned atomicAdd(unsigned* to, unsigned value) {
  return std::atomic_ref(*to).fetch_add(value);
}
template <class T>
T __ldg(const T* from) {
  return *from;
}
inline float __log2f(float x) { return std::log2(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
