#pragma once

#include <cstddef>
#include <cstdint>

#include "perpend/kernels/cuda/device/hopper_params.h"
#include "perpend/kernels/cuda/device/pipeline.cuh"
#include "perpend/kernels/cuda/device/ptx.cuh"
#include "perpend/kernels/cuda/device/row_output.cuh"
#include "perpend/kernels/cuda/device/shared_layout.h"

// What the parts of the Hopper kernel share: its sizes, its shared memory and the barriers in it.

namespace perpend::device {

constexpr int kCopyThreads = 128;

// What the copying warps and the computing ones know of an item; `place.q_token` < 0 behind the
// last.
struct RingItem {
  Place place;
  std::int32_t kv_head;
  std::int32_t kv_batch;
  std::int32_t kv_base;  // first token of its sequence
  std::int32_t list_begin;
  std::int32_t num_partial;
  std::int32_t num_full;
  Step first;

  __device__ __forceinline__ int num_steps() const { return num_partial + num_full; }
  __device__ __forceinline__ bool is_end() const { return place.q_token < 0; }
};

// kSkips: parts test whether they have a step. kChanges: scores are changed before softmax.
template <class Element_, int kHeadDim_, bool kSkips_, bool kChanges_>
struct HopperForward {
  using Element = Element_;
  static constexpr int kHeadDim = kHeadDim_;
  static constexpr bool kSkips = kSkips_;
  static constexpr bool kChanges = kChanges_;

  static constexpr int kKeys = keys_of_step(kHeadDim);
  using Layout = TileLayout<kHeadDim>;
  static constexpr int kTeams = kHeadDim <= 64 ? 2 : 1;  // items at a time
  static constexpr int kThreads = kCopyThreads + kTeams * kTileThreads;
  // Window attention, of which items have a step or two, has narrow heads: memory bounds it, and
  // what is under way from there must be several items. Of long ones more would be taken too early.
  static constexpr bool kIsNarrow = kHeadDim <= 32;
  // Of a computing thread.
  static constexpr int kRegisters = kTeams == 1 ? 240 : (kIsNarrow ? 104 : 112);
  static constexpr int kCopyRegisters = kTeams == 1 ? 24 : (kIsNarrow ? 56 : 32);
  static constexpr int kStages = kIsNarrow ? 4 : 2;
  static constexpr int kQueryBuffers = kIsNarrow ? 4 : kHeadDim <= 192 ? 2 : 1;
  static constexpr int kItemRing = kIsNarrow ? 4 : 2;
  // Keys of one product: of two teams, half a step.
  static constexpr int kColumns = kTeams == 1 ? kKeys : kKeys / 2;
  static constexpr int kScores = kColumns / 2;  // registers of a thread
  static constexpr int kBitWords = kKeys / 64;  // of a thread and step
  static constexpr int kBitmapBytes = fragment_words(kKeys) * 4;

  static constexpr int kQueryBytes = Layout::bytes(kTileRows);
  static constexpr int kStepBytes = Layout::bytes(kKeys);
  // Arrivals that empty a stage: with skips there may be no product between two waits, which keeps
  // the warps of a warpgroup together, so each of them arrives.
  static constexpr bool kWarpsRelease = kSkips || kTeams == 2;
  static constexpr int kEmptyArrivals =
      kWarpsRelease ? kTileThreads / 32 * kWarpArrivals : kTileThreads / 128 * kWarpgroupArrivals;

  struct Control {
    std::uint64_t k_full[kStages], k_empty[kStages];
    std::uint64_t v_full[kStages], v_empty[kStages];
    std::uint64_t v_clean[kStages];
    std::uint64_t q_full[kQueryBuffers], q_empty[kQueryBuffers];
    std::uint64_t item_full[kItemRing], item_empty[kItemRing];
    std::uint64_t item_wanted;
    std::uint64_t done;  // its first phase is over from the start
    Step steps[kStages];
    RingItem items[kItemRing];
    std::int32_t indices[kItemRing];  // of the items
  };
  static constexpr int kQueryOffset = 0;
  static constexpr int kKeyOffset = kQueryBuffers * kQueryBytes;
  static constexpr int kValueOffset = kKeyOffset + kStages * kStepBytes;
  static constexpr int kBitmapOffset = kValueOffset + kStages * kStepBytes;
  static constexpr int kControlOffset = kBitmapOffset + kStages * kBitmapBytes;
  static constexpr int kTeamBytes =
      (kControlOffset + static_cast<int>(sizeof(Control)) + kTileAlignment - 1) / kTileAlignment *
      kTileAlignment;
  static constexpr int kSharedBytes = kTeams * kTeamBytes;
};

// The shared memory of a team.
template <class Kernel>
struct HopperShared {
  using Control = typename Kernel::Control;

  __device__ __forceinline__ HopperShared(char* memory, int team)
      : base(shared_address(memory) + team * Kernel::kTeamBytes),
        control(reinterpret_cast<Control*>(memory + team * Kernel::kTeamBytes +
                                           Kernel::kControlOffset)) {}

  std::uint32_t base;
  Control* control;

  __device__ __forceinline__ std::uint32_t queries(int buffer) const {
    return base + Kernel::kQueryOffset + buffer * Kernel::kQueryBytes;
  }
  __device__ __forceinline__ std::uint32_t keys(int stage) const {
    return base + Kernel::kKeyOffset + stage * Kernel::kStepBytes;
  }
  __device__ __forceinline__ std::uint32_t values(int stage) const {
    return base + Kernel::kValueOffset + stage * Kernel::kStepBytes;
  }
  __device__ __forceinline__ std::uint32_t bitmap(int stage) const {
    return base + Kernel::kBitmapOffset + stage * Kernel::kBitmapBytes;
  }
  __device__ __forceinline__ std::uint32_t barrier(std::size_t offset, int index = 0) const {
    return base + Kernel::kControlOffset + static_cast<std::uint32_t>(offset) + index * 8;
  }
  __device__ __forceinline__ std::uint32_t k_full(int i) const {
    return barrier(offsetof(Control, k_full), i);
  }
  __device__ __forceinline__ std::uint32_t k_empty(int i) const {
    return barrier(offsetof(Control, k_empty), i);
  }
  __device__ __forceinline__ std::uint32_t v_full(int i) const {
    return barrier(offsetof(Control, v_full), i);
  }
  __device__ __forceinline__ std::uint32_t v_empty(int i) const {
    return barrier(offsetof(Control, v_empty), i);
  }
  __device__ __forceinline__ std::uint32_t v_clean(int i) const {
    return barrier(offsetof(Control, v_clean), i);
  }
  __device__ __forceinline__ std::uint32_t q_full(int i) const {
    return barrier(offsetof(Control, q_full), i);
  }
  __device__ __forceinline__ std::uint32_t q_empty(int i) const {
    return barrier(offsetof(Control, q_empty), i);
  }
  __device__ __forceinline__ std::uint32_t item_full(int i) const {
    return barrier(offsetof(Control, item_full), i);
  }
  __device__ __forceinline__ std::uint32_t item_empty(int i) const {
    return barrier(offsetof(Control, item_empty), i);
  }
  __device__ __forceinline__ std::uint32_t item_wanted() const {
    return barrier(offsetof(Control, item_wanted));
  }
  __device__ __forceinline__ std::uint32_t done() const { return barrier(offsetof(Control, done)); }
};

__device__ __forceinline__ void prefetch_maps(const HopperMaps& maps) {
  prefetch_map(&maps.q_separate);
  prefetch_map(&maps.k_step);
  prefetch_map(&maps.v_step);
}

template <class Kernel>
__device__ __forceinline__ void init_barriers(const HopperShared<Kernel>& shared,
                                              bool has_cleaner) {
  // Warps: those that compute, copy and make rows zero.
  const int item_readers =
      kTileThreads / 32 + (Kernel::kTeams == 1 ? 2 : 1) + (has_cleaner ? 1 : 0);
  for (int i = 0; i < Kernel::kStages; ++i) {
    barrier_init(shared.k_full(i), 1);
    barrier_init(shared.v_full(i), 1);
    barrier_init(shared.v_clean(i), kWarpArrivals);
    barrier_init(shared.k_empty(i), Kernel::kEmptyArrivals);
    barrier_init(shared.v_empty(i), Kernel::kEmptyArrivals);
  }
  for (int i = 0; i < Kernel::kQueryBuffers; ++i) {
    barrier_init(shared.q_full(i), 1);
    barrier_init(shared.q_empty(i), Kernel::kEmptyArrivals);
  }
  for (int i = 0; i < Kernel::kItemRing; ++i) {
    barrier_init(shared.item_full(i), 1);
    barrier_init(shared.item_empty(i), item_readers * kWarpArrivals);
  }
  barrier_init(shared.item_wanted(), 1);
  barrier_init(shared.done(), 1);
  barrier_arrive(shared.done());
  fence_barrier_init();
}

// Columns that no box fills are dead, but 0 * NaN would be NaN: what was in the memory before must
// not be.
template <class Kernel>
__device__ __forceinline__ void zero_values(const HopperShared<Kernel>& shared) {
  char* first = reinterpret_cast<char*>(shared.control) - Kernel::kControlOffset;
  auto* values = reinterpret_cast<uint4*>(first + Kernel::kValueOffset);
  constexpr int kChunks = Kernel::kStages * Kernel::kStepBytes / 16;
  for (int i = static_cast<int>(threadIdx.x); i < kChunks; i += Kernel::kThreads) {
    values[i] = make_uint4(0, 0, 0, 0);
  }
  fence_engines();
}

}  // namespace perpend::device
