#pragma once

#include <cstddef>
#include <cstdint>

#include "perpend/kernels/cuda/device/hopper_gradient_kernel.cuh"
#include "perpend/kernels/cuda/device/score_change.cuh"

namespace perpend::device {

// The warp that copies one operand of all items, outer rows and steps. The entries and bitmaps of
// the steps ride with operand 0; of the statistics of queries, -lse does, delta with operand 1.
template <class Kernel, int kOperand>
class GradientCopier {
 public:
  using Pass = typename Kernel::Pass;
  using Item = typename Pass::Item;
  using Entry = typename Pass::Entry;
  using Params = typename Kernel::Params;
  using Layout = typename Kernel::Layout;

  __device__ __forceinline__ GradientCopier(const Params& params,
                                            const GradientShared<Kernel>& shared)
      : params_(params), shared_(shared), lane_(static_cast<int>(threadIdx.x) % 32) {}

  __device__ __forceinline__ void run() {
    for (RingPlace<kGradientItemRing> place;; place.advance()) {
      barrier_wait(shared_.item_full(place.stage), place.parity);
      // Stays in shared memory, since these warps have few registers.
      const Item& item = shared_.control->items[place.stage];
      const bool is_end = Pass::is_end(item);
      if (!is_end) copy_item(item);
      arrive_as_warp(shared_.item_empty(place.stage), lane_);
      if (is_end) return;
    }
  }

 private:
  __device__ __forceinline__ void copy_item(const Item& item) {
    const int num_steps = item.num_partial + item.num_full;
    if (num_steps == 0) return want_item();
    const Entry* entries = params_.pass.lists.steps + item.list_begin;
#pragma unroll 1
    for (int i = 0; i < num_steps; ++i) {
      copy_step(item, entries[i], item.list_begin + i);
      // Later than the first step, since its place is free before that of the outer rows.
      if (i == 0) copy_outer(item);
      if (i == max(num_steps - Kernel::kStages, 0)) want_item();
    }
  }
  __device__ __forceinline__ void want_item() const {
    if (kOperand == 0 && lane_ == 0) barrier_arrive(shared_.item_wanted());
  }

  __device__ __forceinline__ void copy_outer(const Item& item) {
    const RingPlace<Kernel::kOuterBuffers> to = outer_;
    outer_.advance();
    if constexpr (Kernel::kIsNarrow && !Kernel::kColumns) prefetch_statistics(item);
    // Other lanes, which nothing keeps beside this one, might wait for a phase long over.
    if (lane_ != 0) return;
    barrier_wait(shared_.outer_empty(kOperand, to.stage), to.parity ^ 1);
    const int group_size = params_.pass.lists.group_size;
    const bool packed = Pass::is_packed(item);
    const int tokens = packed ? kPartRows / group_size : kPartRows;
    const int rows = packed ? tokens * group_size : kPartRows;
    const CUtensorMap* map =
        packed ? &params_.maps.outer_packed[kOperand] : &params_.maps.outer_separate[kOperand];
    const RowsOrigin origin = Pass::outer_origin(item, params_.common);
    const std::uint32_t full = shared_.outer_full(kOperand, to.stage);
    barrier_expect(full, 2 * rows * Layout::kRowBytes * Layout::kPanels);
    for (int panel = 0; panel < Layout::kPanels; ++panel) {
      for (int part = 0; part < 2; ++part) {
        const int rows_before = panel * kTileRows + part * kPartRows;
        copy_box(shared_.outer(kOperand, to.stage) + rows_before * Layout::kRowBytes, map,
                 {panel * Layout::kPanelColumns, origin.head, origin.token + part * tokens,
                  origin.batch},
                 full, kEvictFirst);
      }
    }
  }
  // Those of the outer rows, which the computing warps read from memory.
  __device__ __forceinline__ void prefetch_statistics(const Item& item) const {
    constexpr int kLineRows = 32;
    const int query = lane_ * kLineRows;
    if (query >= item.q_size) return;
    const Statistics& known = params_.common.statistics;
    prefetch_line((kOperand == 0 ? known.negative_lse : known.delta) + item.q_head * known.rows +
                  statistics_row(item.sequence, item.q_base) + item.q_begin + query);
  }

  // The entry comes from memory while the step waits for its stage.
  __device__ __forceinline__ void copy_step(const Item& item, const Entry entry,
                                            std::int32_t index) {
    const int stage = inner_.stage;
    const Step step = Pass::step_of(entry);
    const std::int32_t row = first_row(step);
    barrier_wait(shared_.inner_empty(kOperand, stage), inner_.parity ^ 1);
    const std::uint32_t full = shared_.inner_full(kOperand, stage);
    if (lane_ == 0) announce(entry, index, stage, full);
    __syncwarp();
    const RowsOrigin origin =
        Pass::inner_origin(item, entry, params_.pass.lists.group_size, params_.common);
    copy_boxes(step, {origin.head, origin.token + row, origin.batch}, stage, full);
    if constexpr (Kernel::kColumns) {
      const Statistics& known = params_.common.statistics;
      const float* from = (kOperand == 0 ? known.negative_lse : known.delta) +
                          origin.head * known.rows + statistics_row(item.sequence, item.q_base);
      const std::uint32_t to = shared_.statistics(kOperand, stage);
#pragma unroll 1  // for the registers
      for (int column = lane_; column < Kernel::kInnerRows; column += 32) {
        copy_word(to + column * 4, from + inner_position(params_.pass.lists, step, column));
      }
      barrier_arrive_behind_words(full);
    }
    inner_.advance();
  }

  __device__ __forceinline__ void announce(const Entry& entry, std::int32_t index, int stage,
                                           std::uint32_t full) const {
    const Step step = Pass::step_of(entry);
    const int rows =
        is_gathered(step) ? num_boxes(step) * params_.pass.lists.box_rows : Kernel::kInnerRows;
    const int bytes = rows * Layout::kRowBytes * Layout::kPanels;
    if constexpr (kOperand == 0) {
      shared_.control->steps[stage] = entry;
      const bool has_bitmap = (step.flags & Step::kHasBitmap) != 0;
      barrier_expect(full, bytes + Kernel::kTurnBytes + (has_bitmap ? Kernel::kBitmapBytes : 0));
      if constexpr (Kernel::kOrdered) {
        const std::int32_t* turns =
            params_.pass.turns.of_steps + static_cast<std::int64_t>(index) * kStepStrips;
        copy_bytes(shared_.turns(stage), turns, Kernel::kTurnBytes, full);
      }
      if (!has_bitmap) return;
      const std::uint32_t* bitmap =
          params_.pass.lists.bitmaps +
          std::size_t{step.flags >> Step::kBitmapShift} * fragment_words(Kernel::kInnerRows);
      copy_bytes(shared_.bitmap(stage), bitmap, Kernel::kBitmapBytes, full);
    } else {
      barrier_expect(full, bytes);
    }
  }

  __device__ __forceinline__ static bool is_gathered(Step step) {
    return (step.flags & Step::kIsGathered) != 0;
  }
  __device__ __forceinline__ static int num_boxes(Step step) {
    return static_cast<int>(step.flags >> Step::kBoxesShift & Step::kBoxesMask) + 1;
  }
  __device__ __forceinline__ int boxes_per_step() const {
    return Kernel::kInnerRows / params_.pass.lists.box_rows;
  }
  // Lanes stand for (box, panel) pairs.
  __device__ __forceinline__ int box_of_lane(Step step) const {
    return is_gathered(step) ? lane_ & (boxes_per_step() - 1) : 0;
  }
  // Of this lane's box.
  __device__ __forceinline__ std::int32_t first_row(Step step) const {
    if (!is_gathered(step)) return step.begin;
    return params_.pass.lists.sub_tiles[step.begin + min(box_of_lane(step), num_boxes(step) - 1)];
  }

  __device__ __forceinline__ void copy_boxes(Step step, RowsOrigin origin, int stage,
                                             std::uint32_t full) const {
    const bool gathered = is_gathered(step);
    const int box = box_of_lane(step);
    const int panel = gathered ? lane_ / boxes_per_step() : lane_;
    const int boxes = gathered ? num_boxes(step) : 1;
    if (panel >= Layout::kPanels || box >= boxes) return;
    const int rows_before = panel * Kernel::kInnerRows + box * params_.pass.lists.box_rows;
    const CUtensorMap* map =
        gathered ? &params_.maps.inner_box[kOperand] : &params_.maps.inner_step[kOperand];
    copy_box(shared_.inner(kOperand, stage) + rows_before * Layout::kRowBytes, map,
             {panel * Layout::kPanelColumns, origin.head, origin.token, origin.batch}, full,
             Kernel::kInnerHint);
  }

  const Params& params_;
  const GradientShared<Kernel>& shared_;
  int lane_;
  RingPlace<Kernel::kOuterBuffers> outer_;
  RingPlace<Kernel::kStages> inner_;
};

// Takes items and puts them into the ring; run by one thread. An item is taken as late as its
// copies allow, since the last ones must go to whoever is free first. The launch-wide counter is 0
// again when the last CTA has seen its end: each item is followed by one addition of its CTA. First
// items go by the CTA's number, but where additions have an order: whom a CTA waits for must be at
// work, so that items are taken in their order by CTAs that run.
template <class Kernel>
__device__ __forceinline__ void fetch_gradient_items(const typename Kernel::Params& params,
                                                     const GradientShared<Kernel>& shared) {
  using Pass = typename Kernel::Pass;
  const auto& lists = params.pass.lists;
  const auto num_ctas = static_cast<std::int32_t>(gridDim.x);
  const std::int32_t num_given = Kernel::kOrdered ? 0 : num_ctas;
  const auto take = [&] {
    return num_given + static_cast<std::int32_t>(atomicAdd(params.counter, 1U));
  };
  auto index = Kernel::kOrdered ? take() : static_cast<std::int32_t>(blockIdx.x);
  RingPlace<1> wanted;
  for (RingPlace<kGradientItemRing> place;; place.advance()) {
    const bool is_end = index >= lists.num_items;
    typename Pass::Item& slot = shared.control->items[place.stage];
    barrier_wait(shared.item_empty(place.stage), place.parity ^ 1);
    if (is_end) {
      if (index == num_ctas + lists.num_items - 1) *params.counter = 0;
      Pass::set_end(slot);
    } else {
      slot = lists.items[index];
    }
    barrier_arrive(shared.item_full(place.stage));
    if (is_end) return;
    // Where many are left, the next can be known in advance.
    constexpr int kPlenty = 8;  // items a CTA
    const bool is_early = Kernel::kIsNarrow && index < lists.num_items - kPlenty * num_ctas;
    if (is_early) {
      index = take();
      prefetch_line(lists.items + index);
    }
    barrier_wait(shared.item_wanted(), wanted.parity);
    wanted.advance();
    if (!is_early) index = take();
  }
}

}  // namespace perpend::device
