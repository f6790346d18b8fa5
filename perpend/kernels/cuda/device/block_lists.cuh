#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/block_lists.h"

// From lists of key blocks to the steps and items of the attention kernels, by two launches.

namespace perpend::device {

// What a warp does for one item of kLists lists. Words of shared memory hold a bit for each unit,
// for each list.
template <int kLists>
class BlockListPlanner {
 public:
  __device__ __forceinline__ BlockListPlanner(const BlockListParams& params, std::int32_t index,
                                              std::uint32_t* words)
      : params_(params),
        g_(params.geometry),
        index_(index),
        item_(block_item(g_, index)),
        words_(words),
        lane_(static_cast<int>(threadIdx.x) % 32) {}

  __device__ __forceinline__ void run() {
#pragma unroll
    for (int list = 0; list < kLists; ++list) {
      cuts_[list] = cut_units(list);
      mark(list);
    }
    count();
    write_whole_units();
    write_cuts();
    if (lane_ == 0) params_.counts[index_] = {first_full_ - first_step_, num_full_};
  }

 private:
  static constexpr unsigned kAllLanes = 0xffffffffU;
  static constexpr int kClasses = kLists == 1 ? 1 : 3;  // of both parts, the first, the second

  // Units [begin, end) that the diagonal cuts; all of those before are visible, none behind.
  struct Units {
    std::int32_t begin;
    std::int32_t end;
  };

  __device__ __forceinline__ std::int32_t first_query(int list) const {
    return g_.q_offset + item_.q_begin + list * g_.queries_of_list();
  }
  __device__ __forceinline__ Units cut_units(int list) const {
    if (!g_.causal) return {g_.num_units, g_.num_units};
    const std::int32_t queries =
        min(g_.queries_of_list(), item_.q_size - list * g_.queries_of_list());
    if (queries <= 0) return {0, 0};
    const std::int32_t first = first_query(list);
    return {first / g_.unit_rows, min((first + queries - 1) / g_.unit_rows + 1, g_.num_units)};
  }

  __device__ __forceinline__ std::uint32_t* words_of(int list) const {
    return words_ + list * g_.words_per_list();
  }

  __device__ __forceinline__ std::int64_t place_of_list(const ListStrides& strides,
                                                        std::int32_t q_block) const {
    const std::int32_t kv_head = g_.is_packed ? item_.head : item_.head / g_.group_size;
    std::int32_t head = 0;
    if (g_.num_list_heads > 1) head = g_.num_list_heads == g_.num_kv_heads ? kv_head : item_.head;
    return item_.batch * strides.batch + head * strides.head + q_block * strides.q_block;
  }

  __device__ __forceinline__ void mark(int list) const {
    std::uint32_t* words = words_of(list);
    for (std::int32_t w = lane_; w < g_.words_per_list(); w += 32) words[w] = 0;
    __syncwarp();
    const std::int32_t q_block = item_.q_block + list;
    std::int32_t count = q_block < g_.num_q_blocks ? g_.max_blocks : 0;
    if (count > 0 && params_.num_blocks != nullptr) {
      count = min(count, params_.num_blocks[place_of_list(params_.count_strides, q_block)]);
    }
    const std::int32_t* blocks =
        params_.block_indices + place_of_list(params_.index_strides, q_block);
    for (std::int32_t i = lane_; i < count; i += 32) {
      const std::int32_t block = blocks[i];
      if (block < 0 || block >= g_.num_kv_blocks) continue;
      const std::int32_t begin = block * g_.units_per_block;
      const std::int32_t end = min(begin + g_.units_per_block, cuts_[list].end);
      for (std::int32_t unit = begin; unit < end; ++unit) {
        atomicOr(words + unit / 32, 1U << unit % 32);
      }
    }
    __syncwarp();
  }

  // Bits of a word that stand for units before `end`.
  __device__ __forceinline__ static std::uint32_t bits_before(std::int32_t end, std::int32_t word) {
    const std::int32_t count = end - 32 * word;
    if (count <= 0) return 0;
    return count >= 32 ? ~0U : (1U << count) - 1;
  }
  // Units of a class among those of a word, but for cut ones.
  __device__ __forceinline__ std::uint32_t bits_of(int of_class, std::int32_t word) const {
    if (word >= g_.words_per_list()) return 0;
    const std::uint32_t first = words_of(0)[word] & bits_before(cuts_[0].begin, word);
    if constexpr (kLists == 1) return first;
    const std::uint32_t second = words_of(1)[word] & bits_before(cuts_[1].begin, word);
    if (of_class == 0) return first & second;
    return of_class == 1 ? first & ~second : second & ~first;
  }
  __device__ __forceinline__ static std::uint32_t parts_of(int of_class) {
    return of_class == 0 ? Step::kBothParts : static_cast<std::uint32_t>(of_class);
  }

  // Units of a list's cut `cut` that are there, a bit each.
  __device__ __forceinline__ std::uint32_t subset_of(int list, std::int32_t cut) const {
    const std::int32_t begin = cuts_[list].begin + cut * g_.units_per_step();
    const std::int32_t count = min(g_.units_per_step(), cuts_[list].end - begin);
    std::uint32_t subset = 0;
    for (std::int32_t i = 0; i < count; ++i) {
      const std::int32_t unit = begin + i;
      subset |= (words_of(list)[unit / 32] >> unit % 32 & 1U) << i;
    }
    return subset;
  }

  __device__ __forceinline__ void count() {
    const std::int32_t last = g_.num_units - 1;
    const bool last_is_short = last >= 0 && g_.tail_rows() < g_.unit_rows;
    std::int32_t units = index_ * g_.units_per_item;
    std::int32_t partial = 0;
#pragma unroll
    for (int c = 0; c < kClasses; ++c) {
      std::int32_t count = 0;
      for (std::int32_t w = lane_; w < g_.words_per_list(); w += 32) count += __popc(bits_of(c, w));
      for (int step = 16; step > 0; step /= 2) count += __shfl_xor_sync(kAllLanes, count, step);
      num_units_[c] = count;
      first_unit_[c] = units;
      units += count;
      has_tail_[c] = last_is_short && (bits_of(c, last / 32) >> last % 32 & 1U) != 0;
      const std::int32_t steps = (count + g_.units_per_step() - 1) >> g_.units_per_step_log;
      const bool is_whole = (count & (g_.units_per_step() - 1)) == 0 && !has_tail_[c];
      if (c == 0) {
        num_full_ = is_whole ? steps : steps - 1;
        partial = steps - num_full_;
      } else {
        first_partial_[c] = partial;
        partial += steps;
      }
    }
    first_cut_unit_ = units;
    first_cut_ = partial;
#pragma unroll
    for (int list = 0; list < kLists; ++list) {
      for (std::int32_t cut = 0; cut < g_.cuts_per_list; ++cut) {
        if (subset_of(list, cut) != 0) ++partial;
      }
    }
    first_step_ = index_ * g_.steps_per_item;
    first_full_ = first_step_ + partial;
  }

  __device__ __forceinline__ void write_whole_units() const {
#pragma unroll
    for (int c = 0; c < kClasses; ++c) {
      std::int32_t before = 0;
      for (std::int32_t first = 0; first < g_.words_per_list(); first += 32) {
        const std::int32_t w = first + lane_;
        std::uint32_t bits = bits_of(c, w);
        const std::int32_t count = __popc(bits);
        std::int32_t up_to_here = count;
        for (int step = 1; step < 32; step *= 2) {
          const std::int32_t other = __shfl_up_sync(kAllLanes, up_to_here, step);
          if (lane_ >= step) up_to_here += other;
        }
        std::int32_t rank = before + up_to_here - count;
        for (; bits != 0; bits &= bits - 1, ++rank) write_unit(c, rank, 32 * w + __ffs(bits) - 1);
        before += __shfl_sync(kAllLanes, up_to_here, 31);
      }
    }
  }

  // The unit `rank` of a class, and the step that begins with it.
  __device__ __forceinline__ void write_unit(int c, std::int32_t rank, std::int32_t unit) const {
    const std::int32_t key = unit * g_.unit_rows;
    const std::int32_t place = first_unit_[c] + rank;
    if (g_.units_per_step_log > 0) params_.sub_tiles[place] = key;
    if ((rank & (g_.units_per_step() - 1)) != 0) return;
    const std::int32_t boxes = min(g_.units_per_step(), num_units_[c] - rank);
    const bool has_tail = has_tail_[c] && rank + boxes == num_units_[c];
    const std::uint32_t flags =
        params_.flags[g_.flags_index(parts_of(c), boxes, has_tail)] | parts_of(c);
    write_step(step_of(c, rank >> g_.units_per_step_log), key, place, boxes, flags);
  }
  __device__ __forceinline__ std::int32_t step_of(int c, std::int32_t step) const {
    if (c != 0) return first_step_ + first_partial_[c] + step;
    return step < num_full_ ? first_full_ + step : first_step_;
  }
  // `place`: of its sub-tiles; `flags`: all but how it is gathered.
  __device__ __forceinline__ void write_step(std::int32_t to, std::int32_t key, std::int32_t place,
                                             std::int32_t boxes, std::uint32_t flags) const {
    const bool is_gathered = g_.units_per_step_log > 0;
    if (is_gathered) {
      flags |= Step::kIsGathered | static_cast<std::uint32_t>(boxes - 1) << Step::kBoxesShift;
    }
    params_.steps[to] = {is_gathered ? place : key, flags};
  }

  __device__ __forceinline__ void write_cuts() const {
    std::int32_t place = first_cut_unit_;
    std::int32_t step = first_step_ + first_cut_;
#pragma unroll
    for (int list = 0; list < kLists; ++list) {
      const std::int32_t begin = cuts_[list].begin;
      const std::int32_t phase = first_query(list) - begin * g_.unit_rows;
      for (std::int32_t cut = 0; cut < g_.cuts_per_list; ++cut) {
        const std::uint32_t subset = subset_of(list, cut);
        if (subset == 0) continue;
        const std::int32_t first = (begin + cut * g_.units_per_step()) * g_.unit_rows;
        write_cut_units(first, subset, place);
        if (lane_ == 0) {
          const std::uint32_t flags = params_.cut_flags[g_.cut_index(list, phase, cut, subset)];
          write_step(step, first, place, __popc(subset), flags | g_.parts_of_list(list));
        }
        place += __popc(subset);
        ++step;
      }
    }
  }
  __device__ __forceinline__ void write_cut_units(std::int32_t first, std::uint32_t subset,
                                                  std::int32_t place) const {
    if (g_.units_per_step_log == 0 || (subset >> lane_ & 1U) == 0) return;
    params_.sub_tiles[place + __popc(subset & ((1U << lane_) - 1))] = first + lane_ * g_.unit_rows;
  }

  const BlockListParams& params_;
  const BlockGeometry& g_;
  std::int32_t index_;
  BlockItem item_;
  std::uint32_t* words_;
  int lane_;
  Units cuts_[kLists] = {};
  std::int32_t num_units_[kClasses] = {};      // of each class
  std::int32_t first_unit_[kClasses] = {};     // where they begin among the sub-tiles
  std::int32_t first_partial_[kClasses] = {};  // of the first step, inside the item's
  bool has_tail_[kClasses] = {};
  std::int32_t num_full_ = 0;
  std::int32_t first_step_ = 0;
  std::int32_t first_full_ = 0;
  std::int32_t first_cut_ = 0;  // inside the item's steps
  std::int32_t first_cut_unit_ = 0;
};

// Shared memory: words_per_item() words for each warp.
template <int kLists>
static __global__ void plan_block_lists(const __grid_constant__ BlockListParams params) {
  // NOLINTNEXTLINE(readability-redundant-declaration): an emulated GPU has declared it
  extern __shared__ __align__(16) std::uint16_t shared_values[];
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const auto index = static_cast<std::int32_t>(blockIdx.x) * params.warps_per_cta + warp;
  if (index >= params.geometry.num_items) return;
  auto* words = reinterpret_cast<std::uint32_t*>(shared_values);
  BlockListPlanner<kLists>(params, index, words + warp * params.geometry.words_per_item()).run();
}

// A CTA's share of the order: items by their numbers of steps, most first, those with equally many
// as they were; among the items of kHeadsInOrder heads, since neighbours in time should share keys.
class ItemOrder {
 public:
  static constexpr std::int32_t kBuckets = kOrderThreads;

  // Of a CTA.
  struct Shared {
    std::uint32_t before[kBuckets];       // items of the section before this CTA's, by bucket
    std::uint32_t behind[kBuckets];       // the others, this CTA's among them
    std::int32_t buckets[kOrderThreads];  // of this CTA's
  };

  __device__ __forceinline__ ItemOrder(const BlockListParams& params, Shared& shared)
      : params_(params), g_(params.geometry), shared_(shared) {
    const auto cta = static_cast<std::int32_t>(blockIdx.x);
    begin_ = cta / g_.ctas_per_section() * g_.items_per_section();
    end_ = begin_ + min(g_.items_per_section(), g_.num_items - begin_);
    own_begin_ = min(begin_ + cta % g_.ctas_per_section() * kOrderThreads, end_);
    own_end_ = min(own_begin_ + kOrderThreads, end_);
  }

  __device__ __forceinline__ void run() {
    const auto thread = static_cast<std::int32_t>(threadIdx.x);
    shared_.behind[thread] = 0;
    shared_.before[thread] = 0;
    const std::int32_t own = own_begin_ + thread;
    shared_.buckets[thread] = own < own_end_ ? bucket_of(own) : -1;
    __syncthreads();
    add_counts(begin_, own_begin_, shared_.before);
    add_counts(own_begin_, end_, shared_.behind);
    __syncthreads();
    if (own < own_end_) write_item(own, begin_ + rank_of(thread));
  }

 private:
  __device__ __forceinline__ std::int32_t bucket_of(std::int32_t index) const {
    const StepCounts counts = params_.counts[index];
    const std::int64_t steps = counts.num_partial + counts.num_full;
    // Most steps come first.
    return static_cast<std::int32_t>((kBuckets - 1) - steps * (kBuckets - 1) / g_.steps_per_item);
  }

  // Lists are often of one length: a thread adds up what follows each other.
  __device__ __forceinline__ void add_counts(std::int32_t begin, std::int32_t end,
                                             std::uint32_t* counts) const {
    std::int32_t bucket = 0;
    std::uint32_t count = 0;
    for (auto i = begin + static_cast<std::int32_t>(threadIdx.x); i < end; i += kOrderThreads) {
      const std::int32_t next = bucket_of(i);
      if (next != bucket && count > 0) {
        atomicAdd(counts + bucket, count);
        count = 0;
      }
      bucket = next;
      ++count;
    }
    if (count > 0) atomicAdd(counts + bucket, count);
  }

  // Inside the section.
  __device__ __forceinline__ std::int32_t rank_of(std::int32_t thread) const {
    const std::int32_t bucket = shared_.buckets[thread];
    std::uint32_t rank = shared_.before[bucket];
    for (std::int32_t b = 0; b < bucket; ++b) rank += shared_.before[b] + shared_.behind[b];
    for (std::int32_t t = 0; t < thread; ++t) rank += shared_.buckets[t] == bucket ? 1 : 0;
    return static_cast<std::int32_t>(rank);
  }

  __device__ __forceinline__ void write_item(std::int32_t index, std::int32_t to) const {
    const BlockItem item = block_item(g_, index);
    const StepCounts counts = params_.counts[index];
    const std::int32_t list_begin = index * g_.steps_per_item;
    const std::int32_t q_head = item.head * g_.heads_of_item();
    Step first{};
    if (counts.num_partial + counts.num_full > 0) first = params_.steps[list_begin];
    params_.items[to] = {item.q_begin,
                         item.q_size,
                         q_head,
                         item.batch,
                         list_begin,
                         counts.num_partial,
                         counts.num_full,
                         2 * (q_head / g_.group_size) + (g_.is_packed ? 1 : 0),
                         item.batch * g_.q_len,
                         item.batch * g_.kv_len,
                         g_.q_offset,
                         g_.kv_len,
                         first,
                         Item::kUncut,
                         0};
  }

  const BlockListParams& params_;
  const BlockGeometry& g_;
  Shared& shared_;
  std::int32_t begin_;  // items of the section
  std::int32_t end_;
  std::int32_t own_begin_;  // of this CTA
  std::int32_t own_end_;
};

static __global__ void __launch_bounds__(kOrderThreads)
    order_block_items(const __grid_constant__ BlockListParams params) {
  // NOLINTNEXTLINE(readability-redundant-declaration): an emulated GPU has declared it
  extern __shared__ __align__(16) std::uint16_t shared_values[];
  ItemOrder(params, *reinterpret_cast<ItemOrder::Shared*>(shared_values)).run();
}

}  // namespace perpend::device
