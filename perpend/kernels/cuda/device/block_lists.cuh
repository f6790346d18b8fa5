#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/block_lists.h"

// From lists of key blocks to the steps and items of the attention kernels.

namespace perpend::device {

// Bits of a word that stand for units before `end`.
__device__ __forceinline__ std::uint32_t bits_before(std::int32_t end, std::int32_t word) {
  const std::int32_t count = end - 32 * word;
  if (count <= 0) return 0;
  return count >= 32 ? ~0U : (1U << count) - 1;
}

// Which list.
struct BlockListPlace {
  std::int32_t batch;
  std::int32_t head;  // of the lists
  std::int32_t q_block;

  __device__ __forceinline__ std::int64_t offset(const ListStrides& strides) const {
    return batch * strides.batch + head * strides.head + q_block * strides.q_block;
  }
};
// What a bit stands for.
struct BlockUnits {
  std::int32_t per_block;
  std::int32_t end;  // those behind are left out
};

// Sets the bits of the units of a list, and no others: in order, and repeats once. Run by a warp; a
// query block beyond the last has an empty list.
__device__ __forceinline__ void mark_blocks(const BlockGeometry& g, const BlockIndices& lists,
                                            BlockListPlace at, BlockUnits units,
                                            std::uint32_t* words, std::int32_t num_words) {
  const auto lane = static_cast<std::int32_t>(threadIdx.x) % 32;
  for (std::int32_t w = lane; w < num_words; w += 32) words[w] = 0;
  __syncwarp();
  std::int32_t count = at.q_block < g.num_q_blocks ? g.max_blocks : 0;
  if (count > 0 && lists.num_blocks != nullptr) {
    count = min(count, lists.num_blocks[at.offset(lists.count_strides)]);
  }
  const std::int32_t* blocks = lists.block_indices + at.offset(lists.index_strides);
  for (std::int32_t i = lane; i < count; i += 32) {
    const std::int32_t block = blocks[i];
    if (block < 0 || block >= g.num_kv_blocks) continue;
    const std::int32_t begin = block * units.per_block;
    const std::int32_t end = min(begin + units.per_block, units.end);
    for (std::int32_t w = begin / 32; 32 * w < end; ++w) {
      atomicOr(words + w, bits_before(end, w) & ~bits_before(begin, w));
    }
  }
  __syncwarp();
}

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
    if (lane_ == 0) {
      const std::int32_t num_partial = first_full_ - first_step_;
      params_.counts[index_] = {num_partial, num_full_};
      params_.buckets[index_] = static_cast<std::uint8_t>(order_bucket(num_partial + num_full_));
    }
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

  __device__ __forceinline__ void mark(int list) const {
    const std::int32_t kv_head = g_.is_packed ? item_.head : item_.head / g_.group_size;
    std::int32_t head = 0;
    if (g_.num_list_heads > 1) head = g_.num_list_heads == g_.num_kv_heads ? kv_head : item_.head;
    mark_blocks(g_, params_.lists, {item_.batch, head, item_.q_block + list},
                {g_.units_per_block, cuts_[list].end}, words_of(list), g_.words_per_list());
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

// An item to its place in the order.
__device__ __forceinline__ void write_block_item(const BlockListParams& params, std::int32_t index,
                                                 std::int32_t to) {
  const BlockGeometry& g = params.geometry;
  const BlockItem item = block_item(g, index);
  const StepCounts counts = params.counts[index];
  const std::int32_t list_begin = index * g.steps_per_item;
  const std::int32_t q_head = item.head * g.heads_of_item();
  Step first{};
  if (counts.num_partial + counts.num_full > 0) first = params.steps[list_begin];
  params.items[to] = {item.q_begin,
                      item.q_size,
                      q_head,
                      item.batch,
                      list_begin,
                      counts.num_partial,
                      counts.num_full,
                      2 * (q_head / g.group_size) + (g.is_packed ? 1 : 0),
                      item.batch * g.q_len,
                      item.batch * g.kv_len,
                      g.q_offset,
                      g.kv_len,
                      first,
                      Item::kUncut,
                      0};
}

}  // namespace perpend::device
