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
// their lists. In each CTA a warpgroup copies and others compute, two to an item, 64 rows each.
// There are two forms. Wide accumulators leave room for one item at a time: a warp each copies K
// and Q, V, and the items, and the two warpgroups take turns: while one has products in flight the
// other does softmax, with the loop of FlashAttention-3, arXiv:2407.08608. Of narrow ones there is
// room for two items, each with half of the shared memory and a warp that copies all of its
// operands; the four warpgroups hide each other's waits without any order.

namespace perpend::device {

constexpr int kCopyThreads = 128;
constexpr int kItemRing = 2;  // more would take long items too early

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
  static constexpr int kTeams = kHeadDim <= 64 ? 2 : 1;  // items at a time
  static constexpr int kThreads = kCopyThreads + kTeams * kTileThreads;
  static constexpr int kRegisters = kTeams == 1 ? 240 : 112;  // of a computing thread
  static constexpr int kCopyRegisters = kTeams == 1 ? 24 : 32;
  static constexpr int kStages = 2;
  static constexpr int kQueryBuffers = kHeadDim <= 192 ? 2 : 1;
  // Keys of one product: of two teams, half a step.
  static constexpr int kColumns = kTeams == 1 ? kKeys : kKeys / 2;
  static constexpr int kScores = kColumns / 2;  // registers of a thread
  static constexpr int kBitWords = kKeys / 64;  // of a thread and step
  static constexpr int kBitmapBytes = fragment_words(kKeys) * 4;

  static constexpr int kQueryBytes = tile_bytes(kTileRows, kHeadDim);
  static constexpr int kStepBytes = tile_bytes(kKeys, kHeadDim);
  // Arrivals that empty a stage: with skips there may be no product between two waits, which keeps
  // the warps of a warpgroup together, so each of them arrives.
  static constexpr bool kWarpsRelease = kSkips || kTeams == 2;
  static constexpr int kEmptyArrivals = kWarpsRelease ? kTileThreads / 32 : kTileThreads / 128;

  struct Control {
    std::uint64_t k_full[kStages], k_empty[kStages];
    std::uint64_t v_full[kStages], v_empty[kStages];
    std::uint64_t q_full[kQueryBuffers], q_empty[kQueryBuffers];
    std::uint64_t item_full[kItemRing], item_empty[kItemRing];
    std::uint64_t item_wanted;
    std::uint64_t done;  // its first phase is over from the start
    Step steps[kStages];
    RingItem items[kItemRing];
  };
  static constexpr int kQueryOffset = 0;
  static constexpr int kKeyOffset = kQueryBuffers * kQueryBytes;
  static constexpr int kValueOffset = kKeyOffset + kStages * kStepBytes;
  static constexpr int kBitmapOffset = kValueOffset + kStages * kStepBytes;
  static constexpr int kControlOffset = kBitmapOffset + kStages * kBitmapBytes;
  static constexpr int kTeamBytes =
      (kControlOffset + static_cast<int>(sizeof(Control)) + kAtomBytes - 1) / kAtomBytes *
      kAtomBytes;
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
__device__ __forceinline__ void init_barriers(const HopperShared<Kernel>& shared) {
  constexpr int kItemReaders = kTileThreads / 32 + (Kernel::kTeams == 1 ? 2 : 1);  // warps
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

// --- items ---

// Takes the items of a team and puts them into its ring; run by one thread. An item is taken as
// late as its copies allow, since the last ones must go to whoever is free first. The launch-wide
// counter is 0 again when the last team has seen its end: each item is followed by one addition of
// its team.
template <class Kernel>
class ItemFetcher {
 public:
  __device__ __forceinline__ ItemFetcher(const HopperForwardParams& params,
                                         const HopperShared<Kernel>& shared, int team)
      : params_(params),
        shared_(shared),
        // The first items go one to each CTA before any has two.
        index_(static_cast<std::int32_t>(team * gridDim.x + blockIdx.x)) {}

  // Puts the next item, or the end, into the ring; false for the end.
  __device__ __forceinline__ bool fetch() {
    const Lists& lists = params_.common.lists;
    if (!is_known_) index_ = take();
    const std::int32_t index = index_;
    RingItem& slot = shared_.control->items[place_.stage];
    const bool is_end = index >= lists.num_items;
    if (is_end) {
      if (index - num_teams() == lists.num_items - 1) *params_.counter = 0;
      wait_for_slot();
      slot.place.q_token = -1;
    } else {
      // Where many are left, the next can be known in advance.
      is_known_ = index < lists.num_items - kPlenty * num_teams();
      if (is_known_) index_ = take();
      const Item item = lists.items[index];
      const bool kv_is_ragged = params_.common.kv_is_ragged;
      wait_for_slot();
      slot = {place_of(item, params_.common.q_is_ragged),
              item.kv_head_and_packing >> 1,
              kv_is_ragged ? 0 : item.sequence,
              kv_is_ragged ? item.kv_base : 0,
              item.list_begin,
              item.num_partial,
              item.num_full,
              item.first};
    }
    barrier_arrive(shared_.item_full(place_.stage));
    place_.advance();
    return !is_end;
  }

 private:
  static constexpr int kPlenty = 8;  // items a team

  __device__ __forceinline__ static std::int32_t num_teams() {
    return static_cast<std::int32_t>(Kernel::kTeams * gridDim.x);
  }
  __device__ __forceinline__ std::int32_t take() const {
    return num_teams() + static_cast<std::int32_t>(atomicAdd(params_.counter, 1U));
  }
  __device__ __forceinline__ void wait_for_slot() const {
    barrier_wait(shared_.item_empty(place_.stage), place_.parity ^ 1);
  }

  const HopperForwardParams& params_;
  const HopperShared<Kernel>& shared_;
  std::int32_t index_;
  bool is_known_ = true;
  RingPlace<kItemRing> place_;
};

// The warp that does nothing else: takes the next item when the keys of the last are nearly copied.
template <class Kernel>
__device__ __forceinline__ void fetch_items(const HopperForwardParams& params,
                                            const HopperShared<Kernel>& shared) {
  ItemFetcher<Kernel> fetcher(params, shared, 0);
  for (RingPlace<1> wanted; fetcher.fetch(); wanted.advance()) {
    barrier_wait(shared.item_wanted(), wanted.parity);
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
    for_each_step(
        [&](const CopyStep& at, int index) {
          copy_key_step(at);
          if (index == 0) copy_queries(at.item.place);
          if (index == max(at.item.num_steps() - 2, 0)) want_item();
        },
        [] {}, [&] { want_item(); });
  }

  __device__ __forceinline__ void copy_values() {
    for_each_step([&](const CopyStep& at, int) { copy_value_step(at); }, [] {}, [] {});
  }

  // K, Q and V by one warp, which takes the items itself. The values of a step are copied behind
  // the keys of the next, in the order in which they are wanted.
  __device__ __forceinline__ void copy_all(int team) {
    ItemFetcher<Kernel> fetcher(params_, shared_, team);
    CopyStep before{};
    for_each_step(
        [&](const CopyStep& at, int index) {
          copy_key_step(at);
          if (index == 0) copy_queries(at.item.place);
          if (index > 0) copy_value_step(before);
          // Nothing must wait for the item behind, for which the computing warps must make room.
          if (index == at.item.num_steps() - 1) copy_value_step(at);
          before = at;
        },
        [&] {
          if (lane_ == 0) fetcher.fetch();
          __syncwarp();
        },
        [] {});
  }

 private:
  // What a step's copies need.
  struct CopyStep {
    RingItem item;
    Step step;
    std::int32_t row;  // first key of this lane's box
  };

  // Calls body(step, its index in the item) for all steps of all items, fetch() before each item
  // and pass() for an item without steps. What a step needs from memory is read two steps before.
  template <class Body, class Fetch, class Pass>
  __device__ __forceinline__ void for_each_step(Body body, Fetch fetch, Pass pass) {
    const Lists& lists = params_.common.lists;
    for (RingPlace<kItemRing> place;; place.advance()) {
      fetch();
      barrier_wait(shared_.item_full(place.stage), place.parity);
      CopyStep at{shared_.control->items[place.stage], {}, 0};
      __syncwarp();
      if (lane_ == 0) barrier_arrive(shared_.item_empty(place.stage));
      if (at.item.is_end()) return;
      const int num_steps = at.item.num_steps();
      if (num_steps == 0) {
        pass();
        continue;
      }
      const Step* steps = lists.steps + at.item.list_begin;
      at.step = at.item.first;
      at.row = first_key(at.step);
      Step next = num_steps > 1 ? steps[1] : at.step;
      for (int i = 0; i < num_steps; ++i) {
        const std::int32_t next_row = i + 1 < num_steps ? first_key(next) : 0;
        const Step after = i + 2 < num_steps ? steps[i + 2] : next;
        body(at, i);
        at.step = next;
        at.row = next_row;
        next = after;
      }
    }
  }
  __device__ __forceinline__ void want_item() const {
    if (lane_ == 0) barrier_arrive(shared_.item_wanted());
  }

  __device__ __forceinline__ void copy_key_step(const CopyStep& at) {
    barrier_wait(shared_.k_empty(keys_.stage), keys_.parity ^ 1);
    const std::uint32_t full = shared_.k_full(keys_.stage);
    if (lane_ == 0) {
      shared_.control->steps[keys_.stage] = at.step;
      const bool has_bitmap = (at.step.flags & Step::kHasBitmap) != 0;
      barrier_expect(full, step_bytes(at.step) + (has_bitmap ? Kernel::kBitmapBytes : 0));
      if (has_bitmap) {
        const std::uint32_t* bitmap =
            params_.common.lists.bitmaps +
            std::size_t{at.step.flags >> Step::kBitmapShift} * fragment_words(Kernel::kKeys);
        copy_bytes(shared_.bitmap(keys_.stage), bitmap, Kernel::kBitmapBytes, full);
      }
    }
    __syncwarp();
    copy_step(shared_.keys(keys_.stage), params_.maps.k_step, params_.maps.k_box, at, full);
    keys_.advance();
  }

  __device__ __forceinline__ void copy_value_step(const CopyStep& at) {
    barrier_wait(shared_.v_empty(values_.stage), values_.parity ^ 1);
    const std::uint32_t full = shared_.v_full(values_.stage);
    if (lane_ == 0) barrier_expect(full, step_bytes(at.step));
    __syncwarp();
    copy_step(shared_.values(values_.stage), params_.maps.v_step, params_.maps.v_box, at, full);
    values_.advance();
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
                                            const CUtensorMap& box_map, const CopyStep& at,
                                            std::uint32_t full) const {
    const bool gathered = is_gathered(at.step);
    const int box = box_of_lane(at.step);
    const int panel = gathered ? lane_ / boxes_per_step() : lane_;
    const int boxes = gathered ? num_boxes(at.step) : 1;
    if (panel >= Kernel::kPanels || box >= boxes) return;
    const int rows_before = panel * Kernel::kKeys + box * params_.common.lists.box_rows;
    copy_box(to + rows_before * kRowBytes, gathered ? &box_map : &step_map,
             {panel * kPanelColumns, at.item.kv_head, at.item.kv_base + at.row, at.item.kv_batch},
             full, kEvictLast);
  }

  __device__ __forceinline__ void copy_queries(const Place& place) {
    barrier_wait(shared_.q_empty(queries_.stage), queries_.parity ^ 1);
    if (lane_ == 0) copy_query_boxes(place, queries_.stage);
    queries_.advance();
  }
  __device__ __forceinline__ void copy_query_boxes(const Place& place, int buffer) const {
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
  RingPlace<Kernel::kStages> keys_;
  RingPlace<Kernel::kStages> values_;
  RingPlace<Kernel::kQueryBuffers> queries_;
};

// --- the warpgroups that compute ---

template <class Kernel>
class Computer {
 public:
  using Element = typename Kernel::Element;
  static constexpr int kScores = Kernel::kScores;
  static constexpr int kBitWords = Kernel::kBitWords;

  __device__ __forceinline__ Computer(const HopperForwardParams& params,
                                      const HopperShared<Kernel>& shared, int team)
      : params_(params),
        shared_(shared),
        thread_(static_cast<int>(threadIdx.x) - kCopyThreads - team * kTileThreads),
        part_(__shfl_sync(0xffffffffU, thread_ / 128, 0)) {}

  __device__ __forceinline__ void run() {
    if (Kernel::kTeams == 1 && part_ == 0) named_barrier_arrive(kTurnOfPart0, kTileThreads);
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
      if constexpr (Kernel::kTeams == 2) {
        walk_in_order(item.num_partial, item.num_full, o, rows);
      } else if constexpr (Kernel::kSkips) {
        walk_with_skips(item.num_steps(), o, rows);
      } else {
        walk(item.num_partial, item.num_full, o, rows);
      }
    }
    store_row<Element, 0>(o, rows, item.place, tile_row, factor(), params_.common);
    store_row<Element, 1>(o, rows, item.place, tile_row + 8, factor(), params_.common);
  }

  // Half a step after the other; in a full step the values of the first are in flight beside the
  // scores of the second.
  template <int kCount>
  __device__ __forceinline__ void walk_in_order(int num_partial, int num_full, float (&o)[kCount],
                                                RowState& rows) {
#pragma unroll 1
    for (int i = 0; i < num_partial; ++i) partial_in_order(o, rows);
#pragma unroll 1
    for (int i = 0; i < num_full; ++i) full_in_order(o, rows);
    release_queries();
  }

  template <int kCount>
  __device__ __forceinline__ void partial_in_order(float (&o)[kCount], RowState& rows) {
    barrier_wait(shared_.k_full(keys_.stage), keys_.parity);
    const Step step = current_step();
    const std::uint32_t live = live_halves(step);
    if (live == 0) return pass_step();
    std::uint32_t bits[kBitWords];
    load_bits(bits);
#pragma unroll 1
    for (int half = live == 2U ? 1 : 0; live >> half != 0; ++half) {
      do_half<true>(o, rows, step, half, half == 0 ? bits[0] : bits[kBitWords - 1],
                    live >> half == 1U);
      product_wait<0>();
      touch(o);
    }
    release_values();
  }

  template <int kCount>
  __device__ __forceinline__ void full_in_order(float (&o)[kCount], RowState& rows) {
    barrier_wait(shared_.k_full(keys_.stage), keys_.parity);
    const Step step = current_step();
    if (live_halves(step) == 0) return pass_step();
    do_half<false>(o, rows, step, 0, 0, false);
    do_half<false>(o, rows, step, 1, 0, true);
    product_wait<0>();
    touch(o);
    release_values();
  }

  // Leaves the product with the values in flight.
  template <bool kPartial, int kCount>
  __device__ __forceinline__ void do_half(float (&o)[kCount], RowState& rows, Step step, int half,
                                          std::uint32_t bits, bool is_last) {
    float s[kScores];
    std::uint32_t p[kScores / 2];
    issue_scores(s, half);
    product_wait<0>();
    touch(s);
    touch(o);
    if (is_last) release_keys();
    const std::uint32_t word[kBitWords] = {bits};
    finish_scores<kPartial>(s, word, step, half);
    const float upper = softmax_row<0, kPartial>(s, rows, factor());
    const float lower = softmax_row<1, kPartial>(s, rows, factor());
    rescale_rows(o, upper, lower);
    pack_scores<Element>(s, p);
    issue_values(o, p, half);
  }

  // Of a step, those in which this part has a live pair.
  __device__ __forceinline__ std::uint32_t live_halves(Step step) const {
    return step.flags >> (Step::kHalvesShift + 2 * part_) & 3U;
  }
  __device__ __forceinline__ void pass_step() {
    release_keys();
    pass_values();
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
    std::uint32_t bits[kBitWords];
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
    std::uint32_t bits[kBitWords];
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
    std::uint32_t bits[kBitWords];
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

  __device__ __forceinline__ void issue_scores(float (&s)[kScores], int chunk = 0) {
    constexpr std::uint32_t kHigh = descriptor_high(kAtomBytes);
    const std::uint32_t k_low = descriptor_low(
        shared_.keys(keys_.stage) + chunk * Kernel::kColumns * kRowBytes, kColumnLeading);
    touch(s);
    product_fence();
#pragma unroll
    for (int i = 0; i < Kernel::kHeadDim / kStepDepth; ++i) {
      SharedProduct<Element, Kernel::kColumns>::add(
          s, descriptor(q_low_ + column_step(i, kTileRows), kHigh),
          descriptor(k_low + column_step(i, Kernel::kKeys), kHigh), i != 0);
    }
    product_commit();
  }

  template <int kCount>
  __device__ __forceinline__ void issue_values(float (&o)[kCount],
                                               const std::uint32_t (&p)[kScores / 2],
                                               int chunk = 0) {
    constexpr std::uint32_t kHigh = descriptor_high(kAtomBytes);
    barrier_wait(shared_.v_full(values_.stage), values_.parity);
    const std::uint32_t v_low =
        descriptor_low(shared_.values(values_.stage) + chunk * Kernel::kColumns * kRowBytes,
                       row_leading(Kernel::kKeys));
    touch(o);
    product_fence();
#pragma unroll
    for (int i = 0; i < Kernel::kColumns / kStepDepth; ++i) {
      RegisterProduct<Element, Kernel::kHeadDim>::add(o, p + 4 * i,
                                                      descriptor(v_low + row_step(i), kHigh));
    }
    product_commit();
  }

  template <bool kPartial>
  __device__ __forceinline__ void wait_for_keys(std::uint32_t (&bits)[kBitWords]) {
    barrier_wait(shared_.k_full(keys_.stage), keys_.parity);
    if constexpr (kPartial) load_bits(bits);
  }

  // Before the keys are released: the bitmap goes with them.
  __device__ __forceinline__ void load_bits(std::uint32_t (&bits)[kBitWords]) const {
    const std::uint32_t from = shared_.bitmap(keys_.stage) + thread_ * kBitWords * 4;
    if constexpr (kBitWords == 2) {
      asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];"
                   : "=r"(bits[0]), "=r"(bits[1])
                   : "r"(from)
                   : "memory");
    } else {
      asm volatile("ld.shared.u32 %0, [%1];" : "=r"(bits[0]) : "r"(from) : "memory");
    }
  }

  __device__ __forceinline__ Step current_step() const {
    if constexpr (Kernel::kWarpsRelease || Kernel::kChanges)
      return shared_.control->steps[keys_.stage];
    return {};
  }

  template <bool kPartial>
  __device__ __forceinline__ void finish_scores(float (&s)[kScores],
                                                const std::uint32_t (&bits)[kBitWords], Step step,
                                                int chunk = 0) const {
    if constexpr (Kernel::kChanges) {
      change_scores(s, positions_, params_.common, step, chunk * Kernel::kColumns);
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
    if constexpr (Kernel::kWarpsRelease) {
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
  int thread_;  // of the team's computing ones
  int part_;
  RingPlace<Kernel::kStages> keys_;
  RingPlace<Kernel::kStages> values_;
  RingPlace<Kernel::kQueryBuffers> queries_;
  std::uint32_t q_low_ = 0;
  ScorePositions positions_{};
};

template <class Kernel>
__device__ __forceinline__ void copy(const HopperForwardParams& params, char* memory) {
  const int warp = __shfl_sync(0xffffffffU, static_cast<int>(threadIdx.x) / 32, 0);
  if constexpr (Kernel::kTeams == 2) {
    if (warp >= 2) return;
    const HopperShared<Kernel> shared(memory, warp);
    Copier<Kernel>(params, shared).copy_all(warp);
  } else {
    const HopperShared<Kernel> shared(memory, 0);
    if (warp == 0) Copier<Kernel>(params, shared).copy_keys();
    if (warp == 1 && threadIdx.x % 32 == 0) {
      fetch_items(params, shared);
    }
    if (warp == 2) Copier<Kernel>(params, shared).copy_values();
  }
}

template <class Kernel>
__global__ void __launch_bounds__(Kernel::kThreads, 1)
    hopper_forward(const __grid_constant__ HopperForwardParams params) {
  extern __shared__ __align__(1024) char memory[];
  if (threadIdx.x == 0) prefetch_maps(params.maps);
  for (int team = 0; team < Kernel::kTeams; ++team) {
    const HopperShared<Kernel> shared(memory, team);
    if (threadIdx.x == 0) init_barriers(shared);
    if (params.common.lists.box_rows < Kernel::kKeys) zero_values(shared);
  }
  __syncthreads();
  if (threadIdx.x < kCopyThreads) {
    give_registers<Kernel::kCopyRegisters>();
    copy<Kernel>(params, memory);
  } else {
    take_registers<Kernel::kRegisters>();
    const int team =
        __shfl_sync(0xffffffffU, (static_cast<int>(threadIdx.x) - kCopyThreads) / kTileThreads, 0);
    const HopperShared<Kernel> shared(memory, team);
    Computer<Kernel>(params, shared, team).run();
  }
}

}  // namespace perpend::device
