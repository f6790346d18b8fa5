#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "tests/kernels/cuda/emulated/emulated_threads.h"

// As much of a GPU as the attention kernels need, on a CPU; CTAs run one after another or, where it
// is asked for, beside each other. Copies and warpgroup products are done as early or as late as
// they may be, by chance, and threads go on in any order, so that a place, phase or value that is
// wrong shows, and so does a wait that is missing.

#define __device__
#define __global__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __shared__
#define __align__(bytes)

// NOLINTBEGIN(readability-identifier-naming): CUDA's names
struct float2 {
  float x, y;
};
struct uint4 {
  std::uint32_t x, y, z, w;
};
inline uint4 make_uint4(std::uint32_t x, std::uint32_t y, std::uint32_t z, std::uint32_t w) {
  return {x, y, z, w};
}
// NOLINTEND(readability-identifier-naming)

namespace perpend::device {

inline constexpr std::size_t kEmulatedShared = 232448;
alignas(1024) inline char memory[kEmulatedShared];
alignas(1024) inline std::uint16_t shared_values[kEmulatedShared / 2];

// Threads that meet again and again.
class MeetingPoint {
 public:
  explicit MeetingPoint(int count) : count_(count) {}

  std::uint64_t round() const { return round_; }
  void meet(EmulatedThreads::Awaited what);
  // One of the threads that meet, which does not wait for the others.
  void pass() {
    if (++here_ < count_) return;
    here_ = 0;
    ++round_;
  }

 private:
  int count_;
  int here_ = 0;
  std::uint64_t round_ = 0;
};

// What the lanes of a warp exchange, by turns in two places: before a lane writes to one again, all
// have met once more and thus read it.
struct EmulatedWarp {
  MeetingPoint point{32};
  std::uint64_t words[2][32][8];
};

struct EmulatedBarrier {
  int arrivals = 0;
  int pending = 0;
  long bytes = 0;
  std::uint32_t phase = 0;
};

// Work of a thread that goes on beside it, in batches that are done in their order: each at once or
// only when it is waited for.
class WorkInBatches {
 public:
  void add(std::function<void()> work) { next_.push_back(std::move(work)); }
  void commit(bool at_once) {
    batches_.push_back(std::exchange(next_, {}));
    if (at_once && batches_.size() == 1) wait(0);
  }
  // At most `pending` batches are left.
  void wait(std::size_t pending) {
    for (; batches_.size() > pending; batches_.pop_front()) {
      for (const std::function<void()>& work : batches_.front()) work();
    }
  }

 private:
  std::vector<std::function<void()>> next_;
  std::deque<std::vector<std::function<void()>>> batches_;
};

struct EmulatedQueues {
  WorkInBatches products;
  WorkInBatches copies;
  WorkInBatches adds;
  std::vector<std::function<void()>> words;   // copies that nothing stands behind yet
  std::vector<std::function<void()>> stores;  // which the engines do not see yet
  std::uint64_t num_commits = 0;
};

// Whether a product is over for all warps of its warpgroup at once, as it is on a GPU. Kernels that
// do not rely on it are not given it.
enum class Products { kOfWarps, kOfWarpgroups };

struct EmulatedCta {
  EmulatedCta(EmulatedThreads& of, Products scope)
      : threads(of),
        products(scope),
        all(of.count()),
        warps(static_cast<std::size_t>(of.count()) / 32),
        queues(static_cast<std::size_t>(of.count())) {}

  EmulatedThreads& threads;
  Products products;
  MeetingPoint all;
  std::vector<EmulatedWarp> warps;
  std::vector<EmulatedQueues> queues;
  std::map<std::uint32_t, EmulatedBarrier> barriers;
  std::map<std::uint32_t, MeetingPoint> named;  // barriers that have a number

  EmulatedBarrier& barrier_at(std::uint32_t address) {
    const auto found = barriers.find(address);
    if (found == barriers.end()) throw std::logic_error("a barrier that is not initialised");
    return found->second;
  }
  EmulatedWarp& warp() { return warps[static_cast<std::size_t>(threads.current()) / 32]; }
  EmulatedQueues& own_queues() { return queues[static_cast<std::size_t>(threads.current())]; }
  // Until at most `pending` of the batches of products that this thread has committed are left.
  void wait_for_products(std::size_t pending) {
    const auto thread = static_cast<std::size_t>(threads.current());
    if (products == Products::kOfWarps) return queues[thread].products.wait(pending);
    const std::uint64_t batches = queues[thread].num_commits - pending;
    const std::span warpgroup(&queues[thread / 128 * 128], 128);
    threads.wait_until({"products of warpgroup", static_cast<std::uint32_t>(thread / 128)}, [&] {
      return std::ranges::all_of(
          warpgroup, [&](const EmulatedQueues& of) { return of.num_commits >= batches; });
    });
    for (EmulatedQueues& of : warpgroup) of.products.wait(of.num_commits - batches);
  }
  // By chance, but the same for all threads of a warp that come here equally often.
  bool toss_for_warp() {
    const auto warp = static_cast<std::uint64_t>(threads.current() / 32);
    return Random(warp, own_queues().num_commits++).next_below(2) == 0;
  }
};
inline EmulatedCta* emulated_cta;

inline void MeetingPoint::meet(EmulatedThreads::Awaited what) {
  const std::uint64_t round = round_;
  pass();
  if (round_ == round) {
    emulated_cta->threads.wait_until(what, [&] { return round_ != round; });
  }
}

// What read(of_lane) makes of that which all lanes of this warp have put in.
template <class T, class Read>
auto exchanged(const T& mine, Read read) {
  static_assert(sizeof(T) <= sizeof(EmulatedWarp::words[0][0]));
  EmulatedWarp& warp = emulated_cta->warp();
  auto& words = warp.words[warp.point.round() % 2];
  std::memcpy(words[emulated_cta->threads.current() % 32], &mine, sizeof(T));
  warp.point.meet({"an exchange of the lanes", 0});
  return read([&](unsigned lane) {
    T value;
    std::memcpy(&value, words[lane], sizeof(T));
    return value;
  });
}

}  // namespace perpend::device

// The index of the thread whose turn it is.
struct EmulatedThreadIndex {
  struct Axis {
    operator unsigned() const {  // NOLINT(google-explicit-constructor): reads as a number
      return static_cast<unsigned>(perpend::device::emulated_cta->threads.current());
    }
  };
  Axis x;
};
struct EmulatedIndex {
  unsigned x = 0;
};
// NOLINTBEGIN(readability-identifier-naming): CUDA's names
inline constexpr EmulatedThreadIndex threadIdx{};
inline EmulatedIndex blockIdx;
inline EmulatedIndex gridDim;
// NOLINTEND(readability-identifier-naming)

namespace perpend::device {

// A CTA and, while others run, its shared memory.
class EmulatedCtaRun {
 public:
  EmulatedCtaRun(EmulatedThreads& threads, unsigned index, const FunctionRef<void()>& kernel,
                 Products products = Products::kOfWarps)
      : threads_(threads), cta_(threads, products), index_(index) {
    // Of shared memory nothing is known: NaN in every type.
    std::memset(memory, 0xff, sizeof(memory));
    std::memset(shared_values, 0xff, sizeof(shared_values));
    threads_.begin(kernel);
  }
  // To its end, or to where it can not go on, or for some `turns`; false when it could not go on.
  bool go_on(std::uint64_t turns) {
    blockIdx.x = index_;
    emulated_cta = &cta_;
    bool has_moved = false;
    for (; turns > 0 && !threads_.have_returned() && threads_.go_on(); --turns) has_moved = true;
    if (threads_.have_returned()) threads_.finish_work();
    return has_moved;
  }
  bool has_ended() const { return threads_.have_returned(); }
  std::string what_threads_wait_for() const { return threads_.what_threads_wait_for(); }

  void put_memory_away() {
    memory_.assign(std::begin(memory), std::end(memory));
    values_.assign(std::begin(shared_values), std::end(shared_values));
  }
  void bring_memory_back() const {
    std::ranges::copy(memory_, memory);
    std::ranges::copy(values_, shared_values);
  }

 private:
  EmulatedThreads& threads_;
  EmulatedCta cta_;
  unsigned index_;
  std::vector<char> memory_;
  std::vector<std::uint16_t> values_;
};

// Runs kernel() as a grid, a CTA after the other; `seed` chooses the order of its threads. Throws
// what a thread throws, and std::runtime_error with what each waits for when none can go on.
inline void run_emulated(int num_ctas, int num_threads, std::uint64_t seed,
                         FunctionRef<void()> kernel, Products products = Products::kOfWarps) {
  EmulatedThreads threads(num_threads, seed);
  gridDim.x = static_cast<unsigned>(num_ctas);
  for (unsigned index = 0; index < gridDim.x; ++index) {
    EmulatedCtaRun cta(threads, index, kernel, products);
    cta.go_on(~std::uint64_t{0});
    if (!cta.has_ended()) {
      throw std::runtime_error("no thread can go on:" + cta.what_threads_wait_for());
    }
  }
}

// The same with all CTAs at a time, each for some turns before another goes on.
inline void run_emulated_together(int num_ctas, int num_threads, std::uint64_t seed,
                                  FunctionRef<void()> kernel) {
  constexpr std::uint64_t kMostTurns = 200;
  gridDim.x = static_cast<unsigned>(num_ctas);
  Random random(seed, 3);
  std::deque<EmulatedThreads> threads;
  std::deque<EmulatedCtaRun> ctas;
  for (unsigned index = 0; index < gridDim.x; ++index) {
    threads.emplace_back(num_threads, seed + index);
    ctas.emplace_back(threads.back(), index, kernel).put_memory_away();
  }
  // When one can not go on, each is asked before nobody can.
  for (std::size_t num_stuck = 0; num_stuck <= ctas.size();) {
    const std::size_t index = num_stuck > 0 ? num_stuck - 1 : random.next_below(ctas.size());
    EmulatedCtaRun& cta = ctas[index];
    cta.bring_memory_back();
    const bool has_moved = cta.go_on(1 + random.next_below(kMostTurns));
    cta.put_memory_away();
    num_stuck = has_moved ? 0 : num_stuck + 1;
  }
  std::string waiting;
  for (const EmulatedCtaRun& cta : ctas) {
    if (!cta.has_ended()) waiting += cta.what_threads_wait_for();
  }
  if (!waiting.empty()) throw std::runtime_error("no thread can go on:" + waiting);
}

}  // namespace perpend::device

// NOLINTBEGIN(readability-identifier-naming): CUDA's names
inline void __syncthreads() { perpend::device::emulated_cta->all.meet({"__syncthreads", 0}); }
inline void __syncwarp() { perpend::device::emulated_cta->warp().point.meet({"__syncwarp", 0}); }
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
template <class T>
T __shfl_up_sync(unsigned /*mask*/, T value, int step) {
  return perpend::device::exchanged(value, [&](auto of_lane) {
    const unsigned lane = threadIdx.x % 32;
    return of_lane(lane < static_cast<unsigned>(step) ? lane : lane - static_cast<unsigned>(step));
  });
}
inline int __any_sync(unsigned /*mask*/, bool value) {
  return perpend::device::exchanged(value, [](auto of_lane) {
    int any = 0;
    for (unsigned lane = 0; lane < 32; ++lane) any |= of_lane(lane) ? 1 : 0;
    return any;
  });
}
inline unsigned __match_any_sync(unsigned /*mask*/, int value) {
  return perpend::device::exchanged(value, [&](auto of_lane) {
    unsigned same = 0;
    for (unsigned lane = 0; lane < 32; ++lane) same |= (of_lane(lane) == value ? 1U : 0U) << lane;
    return same;
  });
}
template <class T>
T atomicAdd(T* to, T value) {
  const T before = *to;
  *to += value;
  return before;
}
inline unsigned atomicOr(unsigned* to, unsigned value) {
  const unsigned before = *to;
  *to |= value;
  return before;
}
inline void __threadfence() {}
inline int __popc(unsigned bits) { return std::popcount(bits); }
inline int __ffs(unsigned bits) { return bits == 0 ? 0 : std::countr_zero(bits) + 1; }
template <class T>
T __ldg(const T* from) {
  return *from;
}
inline float __log2f(float x) { return std::log2(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
// NOLINTEND(readability-identifier-naming)
