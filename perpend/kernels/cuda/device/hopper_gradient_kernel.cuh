#pragma once

#include <cstddef>
#include <cstdint>

#include "perpend/kernels/cuda/device/gradient_passes.cuh"
#include "perpend/kernels/cuda/device/hopper_gradient_params.h"
#include "perpend/kernels/cuda/device/pipeline.cuh"
#include "perpend/kernels/cuda/device/ptx.cuh"
#include "perpend/kernels/cuda/device/shared_layout.h"

// What the parts of a backward pass on Hopper share: its sizes, its shared memory and the barriers
// in it.

namespace perpend::device {

constexpr int kGradientCopyThreads = 128;
constexpr int kGradientItemRing = 2;

// kChanges: scores are changed before softmax.
template <class Element_, int kHeadDim_, class Pass_, bool kChanges_>
struct HopperGradient {
  using Element = Element_;
  using Pass = Pass_;
  using Params = HopperGradientParams<typename Pass::Params>;
  static constexpr int kHeadDim = kHeadDim_;
  static constexpr bool kColumns = Pass::kColumns;
  static constexpr bool kFused = Pass::kFused;
  static constexpr bool kOrdered = Pass::kOrdered;
  static constexpr bool kChanges = kChanges_;
  // Window attention, of which items have a step or two, has narrow heads: memory bounds it, so two
  // CTAs share a multiprocessor, of which each copies two items while it computes another.
  static constexpr bool kIsNarrow = kHeadDim <= 32;
  static constexpr int kCtasOfSm = kIsNarrow ? 2 : 1;
  static constexpr int kOuterBuffers = kIsNarrow ? 3 : 1;
  // With changes there are too many registers in use for products of two steps at a time.
  static constexpr bool kOverlaps = kColumns && !kChanges && !kIsNarrow;

  static constexpr int kInnerRows = kColumns ? kGradientQueries : keys_of_step(kHeadDim);
  // Inner rows of one product: less of a step where there are half as many registers.
  static constexpr int kProductRows = kIsNarrow ? 32 : kInnerRows;
  static constexpr int kProducts = kInnerRows / kProductRows;
  static constexpr int kWideStages = !kColumns || (kFused && kHeadDim == 128) ? 2 : 3;
  static constexpr int kStages = kIsNarrow ? (kColumns ? 6 : 3) : kWideStages;
  using Layout = TileLayout<kHeadDim>;
  static constexpr int kThreads = kGradientCopyThreads + kTileThreads;
  // Of a computing thread.
  static constexpr int kRegisters = kIsNarrow ? 96 : (kColumns ? 240 : 232);
  static constexpr int kCopyRegisters = kIsNarrow ? 48 : (kColumns ? 24 : 40);
  static constexpr int kScores = kProductRows / 2;            // registers of a thread
  static constexpr int kBitWords = (kProductRows + 63) / 64;  // of a thread and product
  static constexpr int kStepBitWords = kInnerRows / 64;       // and step
  static constexpr int kBitmapBytes = fragment_words(kInnerRows) * 4;
  static constexpr int kEmptyArrivals = kTileThreads / 32 * kWarpArrivals;  // each warp
  // The sums of a fused pass are what should stay in L2.
  static constexpr std::uint64_t kInnerHint = kFused ? kEvictFirst : kEvictLast;

  static constexpr int kOuterBytes = Layout::bytes(kTileRows);
  static constexpr int kInnerBytes = Layout::bytes(kInnerRows);
  static constexpr int kStatisticsBytes = kColumns ? kInnerRows * 4 : 0;

  static_assert(!(kFused && kIsNarrow));
  // Fused: gradients of scores by two buffers, rows of keys, and sums for dq by the warp.
  static constexpr int kScoreBuffers = 2;
  using ScoresLayout = TileLayout<kInnerRows>;
  static constexpr int kScoresBytes = kFused ? ScoresLayout::bytes(kTileRows) : 0;
  static constexpr int kPanelColumns = kHeadDim / QuerySums::kPanels;
  static constexpr int kPanelRowBytes = kPanelColumns * 4;
  static constexpr int kQuerySumsBytes = kFused ? kTileThreads / 32 * 16 * kPanelRowBytes : 0;

  // Fused: where a warp adds its rows of a step's dq.
  struct alignas(16) Destination {
    std::uint32_t row_index;
    std::int32_t rows;  // none where this is not positive
    // Where additions have an order:
    std::uint32_t strip;
    std::int32_t turn;
  };
  static constexpr int kTurnBytes = kOrdered ? kStepStrips * 4 : 0;

  // Of each pair, [0] is for k or q and [1] for v or d_o.
  struct Control {
    std::uint64_t outer_full[2][kOuterBuffers], outer_empty[2][kOuterBuffers];
    std::uint64_t outer_clean[2];  // fused passes, which have one buffer
    std::uint64_t inner_full[2][kStages], inner_empty[2][kStages];
    std::uint64_t inner_clean[2][kStages];
    std::uint64_t item_full[kGradientItemRing], item_empty[kGradientItemRing];
    std::uint64_t scores_full[kScoreBuffers], scores_empty[kScoreBuffers];
    std::uint64_t item_wanted;
    std::uint64_t done;  // its first phase is over from the start
    alignas(16) typename Pass::Entry steps[kStages];
    alignas(16) std::int32_t turns[kStages][kStepStrips];
    Destination destinations[kTileThreads / 32];  // of the steps whose dq is not added yet
    alignas(16) typename Pass::Item items[kGradientItemRing];
  };
  static constexpr int kInnerOffset = 2 * kOuterBuffers * kOuterBytes;
  static constexpr int kScoresOffset = kInnerOffset + 2 * kStages * kInnerBytes;
  static constexpr int kQuerySumsOffset = kScoresOffset + kScoreBuffers * kScoresBytes;
  static constexpr int kStatisticsOffset = kQuerySumsOffset + kQuerySumsBytes;
  static constexpr int kBitmapOffset = kStatisticsOffset + 2 * kStages * kStatisticsBytes;
  static constexpr int kControlOffset = kBitmapOffset + kStages * kBitmapBytes;
  static constexpr int kSharedBytes = kControlOffset + static_cast<int>(sizeof(Control));

  static constexpr int kSharedOfSm = 228 << 10;
  static constexpr int kReservedOfCta = 1 << 10;
  static_assert(kCtasOfSm * (kSharedBytes + kReservedOfCta) <= kSharedOfSm);
};

template <class Kernel>
struct GradientShared {
  using Control = typename Kernel::Control;

  __device__ __forceinline__ explicit GradientShared(char* memory)
      : base(shared_address(memory)),
        control(reinterpret_cast<Control*>(memory + Kernel::kControlOffset)) {}

  std::uint32_t base;
  Control* control;

  __device__ __forceinline__ std::uint32_t outer(int operand, int buffer) const {
    return base + (operand * Kernel::kOuterBuffers + buffer) * Kernel::kOuterBytes;
  }
  __device__ __forceinline__ std::uint32_t inner(int operand, int stage) const {
    return base + Kernel::kInnerOffset + (operand * Kernel::kStages + stage) * Kernel::kInnerBytes;
  }
  __device__ __forceinline__ std::uint32_t scores(int buffer) const {
    return base + Kernel::kScoresOffset + buffer * Kernel::kScoresBytes;
  }
  __device__ __forceinline__ std::uint32_t query_sums(int warp) const {
    return base + Kernel::kQuerySumsOffset + warp * 16 * Kernel::kPanelRowBytes;
  }
  __device__ __forceinline__ std::uint32_t statistics(int operand, int stage) const {
    return base + Kernel::kStatisticsOffset +
           (operand * Kernel::kStages + stage) * Kernel::kStatisticsBytes;
  }
  __device__ __forceinline__ std::uint32_t bitmap(int stage) const {
    return base + Kernel::kBitmapOffset + stage * Kernel::kBitmapBytes;
  }
  __device__ __forceinline__ std::uint32_t barrier(std::size_t offset, int index = 0) const {
    return base + Kernel::kControlOffset + static_cast<std::uint32_t>(offset) + index * 8;
  }
  __device__ __forceinline__ std::uint32_t turns(int stage) const {
    return barrier(offsetof(Control, turns), stage * kStepStrips * 4 / 8);
  }
  __device__ __forceinline__ std::uint32_t outer_full(int operand, int buffer) const {
    return barrier(offsetof(Control, outer_full), operand * Kernel::kOuterBuffers + buffer);
  }
  __device__ __forceinline__ std::uint32_t outer_empty(int operand, int buffer) const {
    return barrier(offsetof(Control, outer_empty), operand * Kernel::kOuterBuffers + buffer);
  }
  __device__ __forceinline__ std::uint32_t inner_full(int operand, int stage) const {
    return barrier(offsetof(Control, inner_full), operand * Kernel::kStages + stage);
  }
  __device__ __forceinline__ std::uint32_t inner_empty(int operand, int stage) const {
    return barrier(offsetof(Control, inner_empty), operand * Kernel::kStages + stage);
  }
  __device__ __forceinline__ std::uint32_t outer_clean(int operand) const {
    return barrier(offsetof(Control, outer_clean), operand);
  }
  __device__ __forceinline__ std::uint32_t inner_clean(int operand, int stage) const {
    return barrier(offsetof(Control, inner_clean), operand * Kernel::kStages + stage);
  }
  __device__ __forceinline__ std::uint32_t scores_full(int buffer) const {
    return barrier(offsetof(Control, scores_full), buffer);
  }
  __device__ __forceinline__ std::uint32_t scores_empty(int buffer) const {
    return barrier(offsetof(Control, scores_empty), buffer);
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

// Whether rows behind the end of a sequence are others' (see dead_rows.cuh): of steps, and of items
// whose keys dq is summed over.
template <class Kernel>
__device__ __forceinline__ bool inner_needs_cleaning(const GradientParams& params) {
  return Kernel::kColumns ? params.q_is_ragged : params.kv_is_ragged;
}
template <class Kernel>
__device__ __forceinline__ bool outer_needs_cleaning(const GradientParams& params) {
  return Kernel::kFused && params.kv_is_ragged;
}
template <class Kernel>
__device__ __forceinline__ bool needs_cleaning(const GradientParams& params) {
  return inner_needs_cleaning<Kernel>(params) || outer_needs_cleaning<Kernel>(params);
}

template <class Kernel>
__device__ __forceinline__ void init_barriers(const GradientShared<Kernel>& shared,
                                              bool has_cleaner) {
  const int item_readers = kTileThreads / 32 + 2 + (has_cleaner ? 1 : 0);  // warps
  // Statistics are copied by all lanes of a warp, which arrive apart from the tile's copy.
  constexpr int kFullArrivals = Kernel::kColumns ? 1 + 32 : 1;
  for (int operand = 0; operand < 2; ++operand) {
    barrier_init(shared.outer_clean(operand), kWarpArrivals);
    for (int i = 0; i < Kernel::kOuterBuffers; ++i) {
      barrier_init(shared.outer_full(operand, i), 1);
      barrier_init(shared.outer_empty(operand, i), Kernel::kEmptyArrivals);
    }
    for (int i = 0; i < Kernel::kStages; ++i) {
      barrier_init(shared.inner_full(operand, i), kFullArrivals);
      barrier_init(shared.inner_clean(operand, i), kWarpArrivals);
      barrier_init(shared.inner_empty(operand, i), Kernel::kEmptyArrivals);
    }
  }
  for (int i = 0; i < Kernel::kScoreBuffers; ++i) {
    barrier_init(shared.scores_full(i), Kernel::kEmptyArrivals);
    barrier_init(shared.scores_empty(i), Kernel::kEmptyArrivals);
  }
  for (int i = 0; i < kGradientItemRing; ++i) {
    barrier_init(shared.item_full(i), 1);
    barrier_init(shared.item_empty(i), item_readers * kWarpArrivals);
  }
  barrier_init(shared.item_wanted(), 1);
  barrier_init(shared.done(), 1);
  barrier_arrive(shared.done());
  fence_barrier_init();
}

// Rows that no box fills are dead, but 0 * NaN would be NaN: what was in the memory before must not
// be.
template <class Kernel>
__device__ __forceinline__ void zero_inner(const GradientShared<Kernel>& shared) {
  char* first = reinterpret_cast<char*>(shared.control) - Kernel::kControlOffset;
  auto* rows = reinterpret_cast<uint4*>(first + Kernel::kInnerOffset);
  constexpr int kChunks = 2 * Kernel::kStages * Kernel::kInnerBytes / 16;
  for (int i = static_cast<int>(threadIdx.x); i < kChunks; i += Kernel::kThreads) {
    rows[i] = make_uint4(0, 0, 0, 0);
  }
  fence_engines();
}

}  // namespace perpend::device
