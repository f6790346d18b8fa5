#pragma once

#include <cstddef>
#include <cstdint>

#include "perpend/kernels/cuda/device/hopper_items.cuh"
#include "perpend/kernels/cuda/device/hopper_kernel.cuh"

namespace perpend::device {

template <class Kernel>
class Copier {
 public:
  using Layout = typename Kernel::Layout;

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
    for (RingPlace<Kernel::kItemRing> place;; place.advance()) {
      fetch();
      barrier_wait(shared_.item_full(place.stage), place.parity);
      CopyStep at{shared_.control->items[place.stage], {}, 0};
      arrive_as_warp(shared_.item_empty(place.stage), lane_);
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
    return rows * Layout::kRowBytes * Layout::kPanels;
  }

  __device__ __forceinline__ void copy_step(std::uint32_t to, const CUtensorMap& step_map,
                                            const CUtensorMap& box_map, const CopyStep& at,
                                            std::uint32_t full) const {
    const bool gathered = is_gathered(at.step);
    const int box = box_of_lane(at.step);
    const int panel = gathered ? lane_ / boxes_per_step() : lane_;
    const int boxes = gathered ? num_boxes(at.step) : 1;
    if (panel >= Layout::kPanels || box >= boxes) return;
    const int rows_before = panel * Kernel::kKeys + box * params_.common.lists.box_rows;
    copy_box(to + rows_before * Layout::kRowBytes, gathered ? &box_map : &step_map,
             {panel * Layout::kPanelColumns, at.item.kv_head, at.item.kv_base + at.row,
              at.item.kv_batch},
             full, kEvictLast);
  }

  __device__ __forceinline__ void copy_queries(const Place& place) {
    barrier_wait(shared_.q_empty(queries_.stage), queries_.parity ^ 1);
    // A lane left behind might wait for a phase long over.
    __syncwarp();
    if (lane_ == 0) copy_query_boxes(place, queries_.stage);
    queries_.advance();
  }
  __device__ __forceinline__ void copy_query_boxes(const Place& place, int buffer) const {
    const int group_size = params_.common.lists.group_size;
    const int queries = place.is_packed ? kPartRows / group_size : kPartRows;
    const int rows = place.is_packed ? queries * group_size : kPartRows;
    const CUtensorMap* map = place.is_packed ? &params_.maps.q_packed : &params_.maps.q_separate;
    const std::uint32_t full = shared_.q_full(buffer);
    barrier_expect(full, 2 * rows * Layout::kRowBytes * Layout::kPanels);
    for (int panel = 0; panel < Layout::kPanels; ++panel) {
      for (int part = 0; part < 2; ++part) {
        const int rows_before = panel * kTileRows + part * kPartRows;
        copy_box(shared_.queries(buffer) + rows_before * Layout::kRowBytes, map,
                 {panel * Layout::kPanelColumns, place.q_head, place.q_token + part * queries,
                  place.batch},
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

}  // namespace perpend::device
