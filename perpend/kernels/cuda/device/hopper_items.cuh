#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/hopper_kernel.cuh"
#include "perpend/kernels/cuda/device/item_pool.cuh"

namespace perpend::device {

// Takes the items of a team and puts them into its ring; run by one thread. An item is taken as
// late as its copies allow, since the last ones must go to whoever is free first.
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
    if (!is_known_) index_ = pool().take();
    const std::int32_t index = index_;
    RingItem& slot = shared_.control->items[place_.stage];
    const bool is_end = pool().is_end(index);
    if (is_end) {
      pool().finish(index);
      wait_for_slot();
      slot.place.q_token = -1;
    } else {
      // Where many are left, the next can be known in advance.
      is_known_ = pool().are_plenty_left(index, kPlenty);
      if (is_known_) index_ = pool().take();
      const Item item = params_.common.lists.items[index];
      const bool kv_is_ragged = params_.common.kv_is_ragged;
      wait_for_slot();
      shared_.control->indices[place_.stage] = index;
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
    if constexpr (Kernel::kIsNarrow) {
      if (!is_end && is_known_) prefetch_line(params_.common.lists.items + index_);
    }
    return !is_end;
  }

 private:
  static constexpr int kPlenty = 8;  // items a team

  __device__ __forceinline__ ItemPool pool() const {
    return {params_.counter, params_.common.lists.num_items,
            static_cast<std::int32_t>(Kernel::kTeams * gridDim.x)};
  }
  __device__ __forceinline__ void wait_for_slot() const {
    barrier_wait(shared_.item_empty(place_.stage), place_.parity ^ 1);
  }

  const HopperForwardParams& params_;
  const HopperShared<Kernel>& shared_;
  std::int32_t index_;
  bool is_known_ = true;
  RingPlace<Kernel::kItemRing> place_;
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

}  // namespace perpend::device
