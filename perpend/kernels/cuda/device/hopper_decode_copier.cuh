#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/hopper_decode_kernel.cuh"
#include "perpend/kernels/cuda/device/item_pool.cuh"

namespace perpend::device {

// The warp that takes items and copies the keys and values of their steps, a slot each, as far
// ahead as there are slots.
template <class Kernel>
class DecodeCopier {
 public:
  using Layout = typename Kernel::Layout;

  __device__ __forceinline__ DecodeCopier(const HopperDecodeParams& params,
                                          const DecodeShared<Kernel>& shared)
      : params_(params), shared_(shared), lane_(static_cast<int>(threadIdx.x) % 32) {}

  __device__ __forceinline__ void run() {
    const ItemPool pool{params_.counter, params_.counts->num_items,
                        static_cast<std::int32_t>(gridDim.x)};
    auto index = static_cast<std::int32_t>(blockIdx.x);
    for (RingPlace<Kernel::kItemRing> place;; place.advance()) {
      if (pool.is_end(index)) {
        if (lane_ == 0) pool.finish(index);
        return put_item({}, place);
      }
      const Item item = params_.common.lists.items[index];
      put_item(item, place);
      copy_item(item);
      // As late as possible: the last items must go to whoever is free first.
      if (lane_ == 0) index = pool.take();
      index = __shfl_sync(0xffffffffU, index, 0);
    }
  }

 private:
  // The boxes of a step; lanes stand for (box, panel) pairs.
  struct Boxes {
    Step step;
    int rows;     // of one
    int count;    // in a panel
    int columns;  // keys that the sequence has
    int box;      // this lane's
    int panel;
    std::int32_t batch;  // or page
    std::int32_t token;  // of that, the first key of this lane's box
  };

  __device__ __forceinline__ void put_item(const Item& item,
                                           const RingPlace<Kernel::kItemRing>& place) const {
    barrier_wait(shared_.item_empty(place.stage), place.parity ^ 1);
    // Once the item is there, the barrier may turn again before a lane that is late has waited.
    __syncwarp();
    if (lane_ == 0) {
      shared_.control->items[place.stage] = item;
      barrier_arrive(shared_.item_full(place.stage));
    }
    __syncwarp();
  }

  __device__ __forceinline__ void copy_item(const Item& item) {
    const int num_steps = item.num_partial + item.num_full;
    if (num_steps == 0) return;
    const Step* steps = params_.common.lists.steps + item.list_begin;
    Boxes boxes = boxes_of(item.first, item);
#pragma unroll 1
    for (int i = 0; i < num_steps; ++i) {
      // What the next step needs from memory is asked for before this one waits for a slot.
      const Boxes next = i + 1 < num_steps ? boxes_of(steps[i + 1], item) : boxes;
      copy_slot<true>(boxes, item, params_.maps.k_step, params_.maps.k_box);
      copy_slot<false>(boxes, item, params_.maps.v_step, params_.maps.v_box);
      boxes = next;
    }
  }

  __device__ __forceinline__ static bool is_gathered(Step step) {
    return (step.flags & Step::kIsGathered) != 0;
  }

  __device__ __forceinline__ Boxes boxes_of(Step step, const Item& item) const {
    Boxes boxes{};
    boxes.step = step;
    const bool gathered = is_gathered(step);
    const Lists& lists = params_.common.lists;
    boxes.rows = gathered ? lists.box_rows : params_.step_rows;
    const int boxes_per_step = Kernel::kKeys / boxes.rows;  // a power of two
    boxes.box = lane_ & (boxes_per_step - 1);
    boxes.panel = lane_ / boxes_per_step;
    std::int32_t key = 0;
    if (gathered) {
      boxes.count = static_cast<int>(step.flags >> Step::kBoxesShift & Step::kBoxesMask) + 1;
      key = lists.sub_tiles[step.begin + min(boxes.box, boxes.count - 1)];
      const std::int32_t last = __shfl_sync(0xffffffffU, key, boxes.count - 1);
      boxes.columns = (boxes.count - 1) * boxes.rows + min(boxes.rows, item.kv_len - last);
    } else {
      boxes.columns = min(Kernel::kKeys, item.kv_len - step.begin);
      boxes.count = (boxes.columns + boxes.rows - 1) / boxes.rows;
      key = step.begin + min(boxes.box, boxes.count - 1) * boxes.rows;
    }
    find_key(key, item, boxes);
    return boxes;
  }

  __device__ __forceinline__ void find_key(std::int32_t key, const Item& item, Boxes& boxes) const {
    const PageTable& table = params_.pages;
    if (table.pages == nullptr) {
      const bool is_ragged = params_.common.kv_is_ragged;
      boxes.batch = is_ragged ? 0 : item.sequence;
      boxes.token = key + (is_ragged ? item.kv_base : 0);
      return;
    }
    // A page that was released is -1, behind whose end the copy engine finds zeros.
    boxes.batch = table.pages[item.sequence * table.stride + key / table.page_size];
    boxes.token = key % table.page_size;
  }

  template <bool kHasKeys>
  __device__ __forceinline__ void copy_slot(const Boxes& boxes, const Item& item,
                                            const CUtensorMap& step_map,
                                            const CUtensorMap& box_map) {
    const int slot = slots_.stage;
    const std::uint32_t full = shared_.full(slot);
    barrier_wait(shared_.empty(slot), slots_.parity ^ 1);
    if (lane_ == 0) {
      if (kHasKeys) shared_.control->steps[slot] = {boxes.step, boxes.columns};
      barrier_expect(full, boxes.count * boxes.rows * Layout::kRowBytes * Kernel::kPanels);
    }
    __syncwarp();
    if (boxes.panel < Kernel::kPanels && boxes.box < boxes.count) {
      const int rows_before = boxes.panel * Kernel::kKeys + boxes.box * boxes.rows;
      copy_box(shared_.base + shared_.slot_offset(slot) + rows_before * Layout::kRowBytes,
               is_gathered(boxes.step) ? &box_map : &step_map,
               {boxes.panel * Layout::kPanelColumns, item.kv_head_and_packing >> 1, boxes.token,
                boxes.batch},
               full, kEvictFirst);
    }
    slots_.advance();
  }

  const HopperDecodeParams& params_;
  const DecodeShared<Kernel>& shared_;
  int lane_;
  RingPlace<Kernel::kSlots> slots_;
};

}  // namespace perpend::device
