#pragma once

#include <cstddef>
#include <cstdint>

#include "perpend/kernels/cuda/device/hopper_decode_params.h"
#include "perpend/kernels/cuda/device/pipeline.cuh"
#include "perpend/kernels/cuda/device/ptx.cuh"
#include "perpend/kernels/cuda/device/shared_layout.h"

// What the parts of the decode kernel share: its sizes, its shared memory and the barriers in it.

namespace perpend::device {

// kChanges: scores are changed before softmax.
template <class Element_, int kHeadDim_, bool kChanges_>
struct HopperDecode {
  using Element = Element_;
  static constexpr int kHeadDim = kHeadDim_;
  static constexpr bool kChanges = kChanges_;

  static constexpr int kKeys = keys_of_step(kHeadDim);
  using Layout = TileLayout<kHeadDim>;
  static constexpr int kPanels = Layout::kPanels;
  static constexpr int kScores = kKeys / 2;     // registers of a thread
  static constexpr int kBitWords = kKeys / 64;  // of a thread and step
  static constexpr int kThreads = kTileThreads + 128;
  static constexpr int kRegisters = 232;  // of a computing thread
  static constexpr int kCopyRegisters = 40;
  static constexpr int kItemRing = 2;

  // A slot holds the keys or the values of a step; as many as there is room for.
  static constexpr int kQueryBytes = Layout::bytes(kPartRows);  // of a part
  static constexpr int kSlotBytes = Layout::bytes(kKeys);
  static constexpr int kMaxSharedBytes = 227 * 1024;
  static constexpr int kControlBytes = 1024;
  static constexpr int kSlots = (kMaxSharedBytes - 2 * kQueryBytes - kControlBytes) / kSlotBytes;
  static constexpr int kArrivals =
      kTileThreads / 32 * kWarpArrivals;  // of each warp, to empty a slot

  // What the computing warps must know of the step in a slot.
  struct SlotStep {
    Step step;
    std::int32_t columns;  // keys that the sequence has; those behind hold anything
  };
  struct Control {
    std::uint64_t full[kSlots], empty[kSlots];
    std::uint64_t item_full[kItemRing], item_empty[kItemRing];
    SlotStep steps[kSlots];
    Item items[kItemRing];  // q_size is 0 behind the last
  };
  static_assert(sizeof(Control) <= kControlBytes);
  static constexpr int kSlotOffset = 2 * kQueryBytes;
  static constexpr int kControlOffset = kSlotOffset + kSlots * kSlotBytes;
  static constexpr int kSharedBytes = kControlOffset + kControlBytes;
};

template <class Kernel>
struct DecodeShared {
  using Control = typename Kernel::Control;

  __device__ __forceinline__ explicit DecodeShared(char* memory)
      : bytes(memory),
        base(shared_address(memory)),
        control(reinterpret_cast<Control*>(memory + Kernel::kControlOffset)) {}

  char* bytes;
  std::uint32_t base;
  Control* control;

  __device__ __forceinline__ static int query_offset(int part) {
    return part * Kernel::kQueryBytes;
  }
  __device__ __forceinline__ static int slot_offset(int slot) {
    return Kernel::kSlotOffset + slot * Kernel::kSlotBytes;
  }
  __device__ __forceinline__ std::uint32_t barrier(std::size_t offset, int index) const {
    return base + Kernel::kControlOffset + static_cast<std::uint32_t>(offset) + index * 8;
  }
  __device__ __forceinline__ std::uint32_t full(int i) const {
    return barrier(offsetof(Control, full), i);
  }
  __device__ __forceinline__ std::uint32_t empty(int i) const {
    return barrier(offsetof(Control, empty), i);
  }
  __device__ __forceinline__ std::uint32_t item_full(int i) const {
    return barrier(offsetof(Control, item_full), i);
  }
  __device__ __forceinline__ std::uint32_t item_empty(int i) const {
    return barrier(offsetof(Control, item_empty), i);
  }
};

template <class Kernel>
__device__ __forceinline__ void init_barriers(const DecodeShared<Kernel>& shared) {
  for (int i = 0; i < Kernel::kSlots; ++i) {
    barrier_init(shared.full(i), 1);
    barrier_init(shared.empty(i), Kernel::kArrivals);
  }
  for (int i = 0; i < Kernel::kItemRing; ++i) {
    barrier_init(shared.item_full(i), 1);
    barrier_init(shared.item_empty(i), Kernel::kArrivals);
  }
  fence_barrier_init();
}

}  // namespace perpend::device
