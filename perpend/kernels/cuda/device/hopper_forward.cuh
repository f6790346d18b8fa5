#pragma once

#include <cstddef>
#include <cstdint>

#include "perpend/kernels/cuda/device/hopper_params.h"
#include "perpend/kernels/cuda/device/pipeline.cuh"
#include "perpend/kernels/cuda/device/ptx.cuh"
#include "perpend/kernels/cuda/device/row_output.cuh"
#include "perpend/kernels/cuda/device/score_change.cuh"
#include "perpend/kernels/cuda/device/shared_layout.h"
#include "perpend/kernels/cuda/device/softmax.cuh"
#include "perpend/kernels/cuda/device/wgmma.cuh"

// The forward kernel for Hopper: persistent CTAs that take work items, longest first, and walk
// their lists. In each CTA one warpgroup copies (a warp for K and Q, a warp for V, a warp for the
// items), two compute, 64 rows each, taking turns: while one has products in flight the other does
// softmax. The shape of the loop is that of FlashAttention-3, arXiv:2407.08608.

namespace perpend::device {

constexpr int kCopyThreads = 128;
constexpr int kHopperThreads = kCopyThreads + kTileThreads;
constexpr int kItemRing = 4;

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
  static constexpr int kPanels = num_panels(kHeadDim);
  static constexpr int kStages = kHeadDim <= 64 ? 4 : 2;
  static constexpr int kQueryBuffers = kHeadDim <= 192 ? 2 : 1;
  static constexpr int kScores = kKeys / 2;  // registers of a thread
  static constexpr int kBitmapBytes = fragment_words(kKeys) * 4;

  static constexpr int kQueryBytes = tile_bytes(kTileRows, kHeadDim);
  static constexpr int kStepBytes = tile_bytes(kKeys, kHeadDim);
  // Arrivals that empty a stage: with skips there may be no product between two waits, which keeps
  // the warps of a warpgroup together, so each of them arrives.
  static constexpr int kEmptyArrivals = kSkips ? kTileThreads / 32 : kTileThreads / 128;

  struct Control {
    std::uint64_t k_full[kStages], k_empty[kStages];
    std::uint64_t v_full[kStages], v_empty[kStages];
    std::uint64_t q_full[kQueryBuffers], q_empty[kQueryBuffers];
    std::uint64_t item_full[kItemRing], item_empty[kItemRing];
    std::uint64_t done;  // its first phase is over from the start
    Step steps[kStages];
    RingItem items[kItemRing];
  };
  static constexpr int kQueryOffset = 0;
  static constexpr int kKeyOffset = kQueryBuffers * kQueryBytes;
  static constexpr int kValueOffset = kKeyOffset + kStages * kStepBytes;
  static constexpr int kBitmapOffset = kValueOffset + kStages * kStepBytes;
  static constexpr int kControlOffset = kBitmapOffset + kStages * kBitmapBytes;
  static constexpr int kSharedBytes = kControlOffset + static_cast<int>(sizeof(Control));
};

// The shared memory of a CTA.
template <class Kernel>
struct HopperShared {
  using Control = typename Kernel::Control;
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
  __device__ __forceinline__ std::uint32_t done() const { return barrier(offsetof(Control, done)); }
};

template <class Kernel>
__device__ __forceinline__ void init_barriers(const HopperShared<Kernel>& shared) {
  constexpr int kItemReaders = kTileThreads / 32 + 2;  // warps
  for (int i = 0; i < Kernel::kStages; ++i) {
    barrier_init(shared.k_full(i), 1);
    barrier_init(shared.v_full(i), 1);
    barrier_init(shared.k_empty(i), Kernel::kEmptyArrivals);
    barrier_init(shared.v_empty(i), Kernel::kEmptyArrivals);
  }
  for (int i = 0; i < Kernel::kQueryBuffers; ++i) {
    barrier_init(shared.q_full(i), 1);
    barrier_init(shared.q_empty(i), Kernel::kEmptyArrivals);
  }
  for (int i = 0; i < kItemRing; ++i) {
    barrier_init(shared.item_full(i), 1);
    barrier_init(shared.item_empty(i), kItemReaders);
  }
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
  for (int i = static_cast<int>(threadIdx.x); i < kChunks; i += kHopperThreads) {
    values[i] = make_uint4(0, 0, 0, 0);
  }
  fence_engines();
}

// --- the warp that takes items ---

// Takes items until there are none and puts them into the ring. The launch-wide counter is 0 again
// when the last CTA has seen its end: each item is followed by one addition of its CTA.
template <class Kernel>
__device__ __forceinline__ void fetch_items(const HopperForwardParams& params,
                                            const HopperShared<Kernel>& shared) {
  const Lists& lists = params.common.lists;
  const auto num_ctas = static_cast<std::int32_t>(gridDim.x);
  std::int32_t index = static_cast<std::int32_t>(blockIdx.x);
  for (RingPlace<kItemRing> place;; place.advance()) {
    RingItem& slot = shared.control->items[place.stage];
    if (index >= lists.num_items) {
      barrier_wait(shared.item_empty(place.stage), place.parity ^ 1);
      slot.place.q_token = -1;
      barrier_arrive(shared.item_full(place.stage));
      if (index - num_ctas == lists.num_items - 1) *params.counter = 0;
      return;
    }
    const std::int32_t next = num_ctas + static_cast<std::int32_t>(atomicAdd(params.counter, 1U));
    const Item item = lists.items[index];
    Step first{};
    if (item.num_partial + item.num_full > 0) first = lists.steps[item.list_begin];
    barrier_wait(shared.item_empty(place.stage), place.parity ^ 1);
    const bool kv_is_ragged = params.common.kv_is_ragged;
    slot = {place_of(item, params.common.q_is_ragged),
            item.kv_head_and_packing >> 1,
            kv_is_ragged ? 0 : item.sequence,
            kv_is_ragged ? item.kv_base : 0,
            item.list_begin,
            item.num_partial,
            item.num_full,
            first};
    barrier_arrive(shared.item_full(place.stage));
    index = next;
  }
}

// --- the warps that copy ---

template <class Kernel>
class Copier {
 public:
  __device__ __forceinline__ Copier(const HopperForwardParams& params,
                                    const HopperShared<Kernel>& shared)
      : params_(params), shared_(shared), lane_(static_cast<int>(threadIdx.x) % 32) {}

  // K and Q of all items; the entries and bitmaps of the steps ride with K.
  __device__ __forceinline__ void copy_keys() {
    RingPlace<Kernel::kStages> keys;
    RingPlace<Kernel::kQueryBuffers> queries;
    for_each_step([&](const RingItem& item, int index, Step step, std::int32_t row) {
      barrier_wait(shared_.k_empty(keys.stage), keys.parity ^ 1);
      const std::uint32_t full = shared_.k_full(keys.stage);
      if (lane_ == 0) {
        shared_.control->steps[keys.stage] = step;
        const bool has_bitmap = (step.flags & Step::kHasBitmap) != 0;
        barrier_expect(full, step_bytes(step) + (has_bitmap ? Kernel::kBitmapBytes : 0));
        if (has_bitmap) {
          const std::uint32_t* bitmap =
              params_.common.lists.bitmaps +
              std::size_t{step.flags >> Step::kBitmapShift} * fragment_words(Kernel::kKeys);
          copy_bytes(shared_.bitmap(keys.stage), bitmap, Kernel::kBitmapBytes, full);
        }
      }
      __syncwarp();
      copy_step(shared_.keys(keys.stage), params_.maps.k_step, params_.maps.k_box, item, step, row,
                full);
      keys.advance();
      if (index > 0) return;
      barrier_wait(shared_.q_empty(queries.stage), queries.parity ^ 1);
      if (lane_ == 0) copy_queries(item.place, queries.stage);
      queries.advance();
    });
  }

  __device__ __forceinline__ void copy_values() {
    RingPlace<Kernel::kStages> values;
    for_each_step([&](const RingItem& item, int, Step step, std::int32_t row) {
      barrier_wait(shared_.v_empty(values.stage), values.parity ^ 1);
      const std::uint32_t full = shared_.v_full(values.stage);
      if (lane_ == 0) barrier_expect(full, step_bytes(step));
      __syncwarp();
      copy_step(shared_.values(values.stage), params_.maps.v_step, params_.maps.v_box, item, step,
                row, full);
      values.advance();
    });
  }

 private:
  // Calls body(item, index of the step, step, first key of this lane's box) for all steps of all
  // items. What a step needs from memory is read two steps before.
  template <class Body>
  __device__ __forceinline__ void for_each_step(Body body) {
    const Lists& lists = params_.common.lists;
    for (RingPlace<kItemRing> place;; place.advance()) {
      barrier_wait(shared_.item_full(place.stage), place.parity);
      const RingItem item = shared_.control->items[place.stage];
      __syncwarp();
      if (lane_ == 0) barrier_arrive(shared_.item_empty(place.stage));
      if (item.is_end()) return;
      const int num_steps = item.num_steps();
      if (num_steps == 0) continue;
      const Step* steps = lists.steps + item.list_begin;
      Step step = item.first;
      Step next = num_steps > 1 ? steps[1] : step;
      std::int32_t row = first_key(step);
      for (int i = 0; i < num_steps; ++i) {
        const std::int32_t next_row = i + 1 < num_steps ? first_key(next) : 0;
        const Step after = i + 2 < num_steps ? steps[i + 2] : next;
        body(item, i, step, row);
        step = next;
        row = next_row;
        next = after;
      }
    }
  }

  __device__ __forceinline__ static bool is_gathered(Step step) {
    return (step.flags & Step::kIsGathered) != 0;
  }
  __device__ __forceinline__ static int num_boxes(Step step) {
    return static_cast<int>(step.flags >> Step::kBoxesShift & Step::kBoxesMask) + 1;
  }
  // Lanes stand for (box, panel) pairs.
  __device__ __forceinline__ int box_of_lane(Step step) const {
    return is_gathered(step) ? lane_ & (boxes_per_step() - 1) : 0;
  }
  __device__ __forceinline__ int boxes_per_step() const {
    return Kernel::kKeys / params_.common.lists.box_rows;
  }
  __device__ __forceinline__ std::int32_t first_key(Step step) const {
    if (!is_gathered(step)) return step.begin;
    return params_.common.lists.sub_tiles[step.begin + min(box_of_lane(step), num_boxes(step) - 1)];
  }
  __device__ __forceinline__ int step_bytes(Step step) const {
    const int rows =
        is_gathered(step) ? num_boxes(step) * params_.common.lists.box_rows : Kernel::kKeys;
    return rows * kRowBytes * Kernel::kPanels;
  }

  __device__ __forceinline__ void copy_step(std::uint32_t to, const CUtensorMap& step_map,
                                            const CUtensorMap& box_map, const RingItem& item,
                                            Step step, std::int32_t row, std::uint32_t full) const {
    const bool gathered = is_gathered(step);
    const int box = box_of_lane(step);
    const int panel = gathered ? lane_ / boxes_per_step() : lane_;
    const int boxes = gathered ? num_boxes(step) : 1;
    if (panel >= Kernel::kPanels || box >= boxes) return;
    const int rows_before = panel * Kernel::kKeys + box * params_.common.lists.box_rows;
    copy_box(to + rows_before * kRowBytes, gathered ? &box_map : &step_map,
             {panel * kPanelColumns, item.kv_head, item.kv_base + row, item.kv_batch}, full,
             kEvictLast);
  }

  __device__ __forceinline__ void copy_queries(const Place& place, int buffer) const {
    const int group_size = params_.common.lists.group_size;
    const int queries = place.is_packed ? kPartRows / group_size : kPartRows;
    const int rows = place.is_packed ? queries * group_size : kPartRows;
    const CUtensorMap* map = place.is_packed ? &params_.maps.q_packed : &params_.maps.q_separate;
    const std::uint32_t full = shared_.q_full(buffer);
    barrier_expect(full, 2 * rows * kRowBytes * Kernel::kPanels);
    for (int panel = 0; panel < Kernel::kPanels; ++panel) {
      for (int part = 0; part < 2; ++part) {
        const int rows_before = panel * kTileRows + part * kPartRows;
        copy_box(shared_.queries(buffer) + rows_before * kRowBytes, map,
                 {panel * kPanelColumns, place.q_head, place.q_token + part * queries, place.batch},
                 full, kEvictFirst);
      }
    }
  }

  const HopperForwardParams& params_;
  const HopperShared<Kernel>& shared_;
  int lane_;
};

// --- the warpgroups that compute ---

template <class Kernel>
class Computer {
 public:
  using Element = typename Kernel::Element;
  static constexpr int kScores = Kernel::kScores;

  __device__ __forceinline__ Computer(const HopperForwardParams& params,
                                      const HopperShared<Kernel>& shared)
      : params_(params),
        shared_(shared),
        thread_(static_cast<int>(threadIdx.x) - kCopyThreads),
        part_(__shfl_sync(0xffffffffU, thread_ / 128, 0)) {}

  __device__ __forceinline__ void run() {
    if (part_ == 0) named_barrier_arrive(kTurnOfPart0, kTileThreads);
    for (RingPlace<kItemRing> place;; place.advance()) {
      barrier_wait(shared_.item_full(place.stage), place.parity);
      const RingItem item = shared_.control->items[place.stage];
      __syncwarp();
      if (thread_ % 32 == 0) barrier_arrive(shared_.item_empty(place.stage));
      if (item.is_end()) return;
      compute(item);
    }
  }

 private:
  static constexpr int kTurnOfPart0 = 1;  // named barriers

  __device__ __forceinline__ void compute(const RingItem& item) {
    float o[Kernel::kHeadDim / 2];
#pragma unroll
    for (int i = 0; i < Kernel::kHeadDim / 2; ++i) o[i] = 0.0F;
    RowState rows;
    const int tile_row = thread_ / 32 * 16 + thread_ % 32 / 4;
    if constexpr (Kernel::kChanges) {
      positions_ = score_positions(item.place, tile_row, params_.common);
    }
    if (item.num_steps() > 0) {
      barrier_wait(shared_.q_full(queries_.stage), queries_.parity);
      q_low_ = descriptor_low(shared_.queries(queries_.stage) + part_ * kPartRows * kRowBytes,
                              kColumnLeading);
      if constexpr (Kernel::kSkips) {
        walk_with_skips(item.num_steps(), o, rows);
      } else {
        walk(item.num_partial, item.num_full, o, rows);
      }
    }
    store_row<Element, 0>(o, rows, item.place, tile_row, factor(), params_.common);
    store_row<Element, 1>(o, rows, item.place, tile_row + 8, factor(), params_.common);
  }

  template <int kCount>
  __device__ __forceinline__ void walk(int num_partial, int num_full, float (&o)[kCount],
                                       RowState& rows) {
    std::uint32_t p[kScores / 2];
    if (num_partial > 0) {
      first_step<true>(p, rows);
    } else {
      first_step<false>(p, rows);
    }
    const int num_steps = num_partial + num_full;
#pragma unroll 1
    for (int i = 1; i < num_partial; ++i) next_step<true>(o, p, rows);
#pragma unroll 1
    for (int i = max(num_partial, 1); i < num_steps; ++i) next_step<false>(o, p, rows);
    release_queries();
    last_values(o, p);
  }

  // Scores and softmax of the first step, whose values wait for the next step's scores.
  template <bool kPartial>
  __device__ __forceinline__ void first_step(std::uint32_t (&p)[kScores / 2], RowState& rows) {
    float s[kScores];
    std::uint32_t bits[kScores / 32];
    wait_for_keys<kPartial>(bits);
    const Step step = current_step();
    issue_scores(s);
    product_wait<0>();
    touch(s);
    release_keys();
    finish_scores<kPartial>(s, bits, step);
    softmax_row<0, kPartial>(s, rows, factor());
    softmax_row<1, kPartial>(s, rows, factor());
    pack_scores<Element>(s, p);
  }

  // The scores of this step and, behind them, the product of the step before with its values. That
  // product is waited for in the middle of softmax, where the exponentials of one row of each
  // thread have covered it and the other row's fill the gaps of packing and rescaling.
  template <bool kPartial, int kCount>
  __device__ __forceinline__ void next_step(float (&o)[kCount], std::uint32_t (&p)[kScores / 2],
                                            RowState& rows) {
    float s[kScores];
    std::uint32_t bits[kScores / 32];
    wait_for_keys<kPartial>(bits);
    const Step step = current_step();
    wait_for_turn();
    issue_scores(s);
    issue_values(o, p);
    pass_turn();
    product_wait<1>();
    touch(s);
    release_keys();
    finish_scores<kPartial>(s, bits, step);
    const float upper = softmax_row<0, kPartial>(s, rows, factor());
    hold_here(s);
    product_wait<0>();
    touch(o);
    release_values();
    const float lower = softmax_row<1, kPartial>(s, rows, factor());
    pack_scores<Element>(s, p);
    rescale_rows(o, upper, lower);
  }

  template <int kCount>
  __device__ __forceinline__ void last_values(float (&o)[kCount],
                                              const std::uint32_t (&p)[kScores / 2]) {
    issue_values(o, p);
    product_wait<0>();
    touch(o);
    release_values();
  }

  // Steps that this part does not have are passed over. `pending`: p waits for its values.
  // `behind`: the values of the step before, which this part does not have, are not released yet;
  // waiting for them at once would hold up the keys.
  template <int kCount>
  __device__ __forceinline__ void walk_with_skips(int num_steps, float (&o)[kCount],
                                                  RowState& rows) {
    std::uint32_t p[kScores / 2];
    bool pending = false;
    bool behind = false;
#pragma unroll 1
    for (int i = 0; i < num_steps; ++i) {
      barrier_wait(shared_.k_full(keys_.stage), keys_.parity);
      const Step step = current_step();
      const bool mine = (step.flags >> part_ & 1U) != 0;
      if (!mine) {
        release_keys();
        if (pending) last_values(o, p);
        pending = false;
        if (behind) pass_values();
        behind = true;
        continue;
      }
      const bool both = (step.flags & Step::kBothParts) == Step::kBothParts;
      step_with_skips(step, both, pending, behind, o, p, rows);
      pending = true;
      behind = false;
    }
    release_queries();
    if (pending) last_values(o, p);
    if (behind) pass_values();
  }

  // As next_step() when a product is pending, else as first_step(). Turns are taken only where both
  // parts have the step, which both know.
  template <int kCount>
  __device__ __forceinline__ void step_with_skips(Step step, bool both, bool pending, bool behind,
                                                  float (&o)[kCount],
                                                  std::uint32_t (&p)[kScores / 2], RowState& rows) {
    float s[kScores];
    std::uint32_t bits[kScores / 32];
    const bool partial = (step.flags & Step::kHasBitmap) != 0;
    if (partial) load_bits(bits);
    if (both) wait_for_turn();
    issue_scores(s);
    if (pending) {
      issue_values(o, p);
      if (both) pass_turn();
      product_wait<1>();
      touch(s);
      release_keys();
      if (partial) mask_scores(s, bits);
      const float upper = softmax_row<0, true>(s, rows, factor());
      hold_here(s);
      product_wait<0>();
      touch(o);
      release_values();
      const float lower = softmax_row<1, true>(s, rows, factor());
      pack_scores<Element>(s, p);
      rescale_rows(o, upper, lower);
    } else {
      if (both) pass_turn();
      if (behind) pass_values();
      product_wait<0>();
      touch(s);
      release_keys();
      if (partial) mask_scores(s, bits);
      const float upper = softmax_row<0, true>(s, rows, factor());
      const float lower = softmax_row<1, true>(s, rows, factor());
      pack_scores<Element>(s, p);
      rescale_rows(o, upper, lower);
    }
  }

  __device__ __forceinline__ void issue_scores(float (&s)[kScores]) {
    constexpr std::uint32_t kHigh = descriptor_high(kAtomBytes);
    const std::uint32_t k_low = descriptor_low(shared_.keys(keys_.stage), kColumnLeading);
    touch(s);
    product_fence();
#pragma unroll
    for (int i = 0; i < Kernel::kHeadDim / kStepDepth; ++i) {
      SharedProduct<Element, Kernel::kKeys>::add(
          s, descriptor(q_low_ + column_step(i, kTileRows), kHigh),
          descriptor(k_low + column_step(i, Kernel::kKeys), kHigh), i != 0);
    }
    product_commit();
  }

  template <int kCount>
  __device__ __forceinline__ void issue_values(float (&o)[kCount],
                                               const std::uint32_t (&p)[kScores / 2]) {
    constexpr std::uint32_t kHigh = descriptor_high(kAtomBytes);
    barrier_wait(shared_.v_full(values_.stage), values_.parity);
    const std::uint32_t v_low =
        descriptor_low(shared_.values(values_.stage), row_leading(Kernel::kKeys));
    touch(o);
    product_fence();
#pragma unroll
    for (int i = 0; i < Kernel::kKeys / kStepDepth; ++i) {
      RegisterProduct<Element, Kernel::kHeadDim>::add(o, p + 4 * i,
                                                      descriptor(v_low + row_step(i), kHigh));
    }
    product_commit();
  }

  template <bool kPartial>
  __device__ __forceinline__ void wait_for_keys(std::uint32_t (&bits)[kScores / 32]) {
    barrier_wait(shared_.k_full(keys_.stage), keys_.parity);
    if constexpr (kPartial) load_bits(bits);
  }

  // Before the keys are released: the bitmap goes with them.
  __device__ __forceinline__ void load_bits(std::uint32_t (&bits)[kScores / 32]) const {
    const std::uint32_t from = shared_.bitmap(keys_.stage) + thread_ * (kScores / 32) * 4;
    if constexpr (kScores == 64) {
      asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];"
                   : "=r"(bits[0]), "=r"(bits[1])
                   : "r"(from)
                   : "memory");
    } else {
      asm volatile("ld.shared.u32 %0, [%1];" : "=r"(bits[0]) : "r"(from) : "memory");
    }
  }

  __device__ __forceinline__ Step current_step() const {
    if constexpr (Kernel::kSkips || Kernel::kChanges) return shared_.control->steps[keys_.stage];
    return {};
  }

  template <bool kPartial>
  __device__ __forceinline__ void finish_scores(float (&s)[kScores],
                                                const std::uint32_t (&bits)[kScores / 32],
                                                Step step) const {
    if constexpr (Kernel::kChanges) {
      change_scores(s, positions_, params_.common, step);
    }
    if constexpr (kPartial) mask_scores(s, bits);
  }

  __device__ __forceinline__ float factor() const {
    return Kernel::kChanges ? 1.0F : params_.common.scores.factor;
  }

  // The two parts take turns at issuing products: each passes the turn to the other.
  __device__ __forceinline__ void wait_for_turn() const {
    named_barrier_sync(kTurnOfPart0 + part_, kTileThreads);
  }
  __device__ __forceinline__ void pass_turn() const {
    named_barrier_arrive(kTurnOfPart0 + 1 - part_, kTileThreads);
  }

  // Nothing ties the exponentials before a wait to that place, and the assembler would move them
  // behind it; it does not move them across a branch, which this wait for what is over contains.
  __device__ __forceinline__ void hold_here(float (&s)[kScores]) const {
    touch(s);
    barrier_wait(shared_.done(), 0);
  }

  __device__ __forceinline__ void release(std::uint32_t empty) const {
    if constexpr (Kernel::kSkips) {
      __syncwarp();
      if (thread_ % 32 == 0) barrier_arrive(empty);
    } else {
      if (thread_ % 128 == 0) barrier_arrive(empty);
    }
  }
  __device__ __forceinline__ void release_keys() {
    release(shared_.k_empty(keys_.stage));
    keys_.advance();
  }
  __device__ __forceinline__ void release_values() {
    release(shared_.v_empty(values_.stage));
    values_.advance();
  }
  __device__ __forceinline__ void pass_values() {
    barrier_wait(shared_.v_full(values_.stage), values_.parity);
    release_values();
  }
  __device__ __forceinline__ void release_queries() {
    release(shared_.q_empty(queries_.stage));
    queries_.advance();
  }

  const HopperForwardParams& params_;
  const HopperShared<Kernel>& shared_;
  int thread_;  // of the computing ones
  int part_;
  RingPlace<Kernel::kStages> keys_;
  RingPlace<Kernel::kStages> values_;
  RingPlace<Kernel::kQueryBuffers> queries_;
  std::uint32_t q_low_ = 0;
  ScorePositions positions_{};
};

template <class Kernel>
__global__ void __launch_bounds__(kHopperThreads, 1)
    hopper_forward(const __grid_constant__ HopperForwardParams params) {
  extern __shared__ __align__(1024) char memory[];
  const HopperShared<Kernel> shared{
      shared_address(memory),
      reinterpret_cast<typename Kernel::Control*>(memory + Kernel::kControlOffset)};
  if (threadIdx.x == 0) init_barriers(shared);
  zero_values(shared);
  __syncthreads();
  if (threadIdx.x < kCopyThreads) {
    give_registers<24>();
    const int warp = __shfl_sync(0xffffffffU, static_cast<int>(threadIdx.x) / 32, 0);
    if (warp == 0) Copier<Kernel>(params, shared).copy_keys();
    if (warp == 1 && threadIdx.x % 32 == 0) fetch_items(params, shared);
    if (warp == 2) Copier<Kernel>(params, shared).copy_values();
  } else {
    take_registers<240>();
    Computer<Kernel>(params, shared).run();
  }
}

}  // namespace perpend::device
