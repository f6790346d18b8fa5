#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/item_order.h"

namespace perpend::device {

// A CTA's share of the order: a stable counting sort of its section by buckets.
class ItemOrder {
 public:
  static constexpr std::int32_t kWarps = kOrderThreads / 32;

  // Of a CTA.
  struct Shared {
    std::uint32_t before[kOrderBuckets];  // items of the section before this CTA's, by bucket
    std::uint32_t behind[kOrderBuckets];  // the others, this CTA's among them
    std::uint32_t next[kOrderBuckets];    // place in the section of a bucket's next item
    std::uint32_t of_warps[kWarps];
  };

  // `buckets`: of all items, in a row of whole words.
  __device__ __forceinline__ ItemOrder(const ItemSections& sections, std::int32_t cta,
                                       const std::uint8_t* buckets, Shared& shared)
      : buckets_(buckets), shared_(shared), thread_(static_cast<std::int32_t>(threadIdx.x)) {
    begin_ = cta / sections.ctas_per_section() * sections.size;
    end_ = min(begin_ + sections.size, sections.num_items);
    own_begin_ = min(begin_ + cta % sections.ctas_per_section() * kOrderThreads, end_);
    own_end_ = min(own_begin_ + kOrderThreads, end_);
  }

  // write_item(index, place) for this CTA's items.
  template <class WriteItem>
  __device__ __forceinline__ void run(WriteItem write_item) {
    shared_.before[thread_] = 0;
    shared_.behind[thread_] = 0;
    __syncthreads();
    add_counts(begin_, own_begin_, shared_.before);
    add_counts(own_begin_, end_, shared_.behind);
    __syncthreads();
    find_first_places();
    const std::int32_t own = own_begin_ + thread_;
    const std::int32_t place = place_of(own < own_end_ ? buckets_[own] : -1);
    if (own < own_end_) write_item(own, begin_ + place);
  }

 private:
  static constexpr unsigned kAllLanes = 0xffffffffU;

  // Lists are often of one length: a thread adds up what follows each other.
  __device__ __forceinline__ void add_counts(std::int32_t begin, std::int32_t end,
                                             std::uint32_t* counts) const {
    std::uint32_t bucket = 0;
    std::uint32_t count = 0;
    const auto* words = reinterpret_cast<const std::uint32_t*>(buckets_);
#pragma unroll 4
    for (std::int32_t first = begin + 4 * thread_; first < end; first += 4 * kOrderThreads) {
      const std::uint32_t word = words[first / 4];
      for (int i = 0; i < 4 && first + i < end; ++i) {
        const std::uint32_t next = word >> 8 * i & 0xffU;
        if (next != bucket && count > 0) {
          atomicAdd(counts + bucket, count);
          count = 0;
        }
        bucket = next;
        ++count;
      }
    }
    if (count > 0) atomicAdd(counts + bucket, count);
  }

  // A thread for each bucket.
  __device__ __forceinline__ void find_first_places() {
    const std::uint32_t count = shared_.before[thread_] + shared_.behind[thread_];
    std::uint32_t up_to_here = count;
    for (int step = 1; step < 32; step *= 2) {
      const std::uint32_t other = __shfl_up_sync(kAllLanes, up_to_here, step);
      if (thread_ % 32 >= step) up_to_here += other;
    }
    if (thread_ % 32 == 31) shared_.of_warps[thread_ / 32] = up_to_here;
    __syncthreads();
    std::uint32_t place = up_to_here - count + shared_.before[thread_];
    for (int warp = 0; warp < thread_ / 32; ++warp) place += shared_.of_warps[warp];
    shared_.next[thread_] = place;
    __syncthreads();
  }

  // Warps go one after another, so that equal items stay as they were. bucket < 0: no item.
  __device__ __forceinline__ std::int32_t place_of(std::int32_t bucket) {
    const unsigned peers = __match_any_sync(kAllLanes, bucket);
    const unsigned before = peers & ((1U << thread_ % 32) - 1);
    std::uint32_t first = 0;
    for (int warp = 0; warp < kWarps; ++warp) {
      if (warp == thread_ / 32) {
        if (bucket >= 0) first = shared_.next[bucket];
        __syncwarp();
        const bool is_last = peers >> thread_ % 32 == 1U;
        if (bucket >= 0 && is_last) {
          shared_.next[bucket] = first + static_cast<std::uint32_t>(__popc(peers));
        }
      }
      __syncthreads();
    }
    return static_cast<std::int32_t>(first) + __popc(before);
  }

  const std::uint8_t* buckets_;
  Shared& shared_;
  std::int32_t thread_;
  std::int32_t begin_;  // items of the section
  std::int32_t end_;
  std::int32_t own_begin_;  // of this CTA
  std::int32_t own_end_;
};

}  // namespace perpend::device
