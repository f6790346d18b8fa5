#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/hopper_warpgroup.cuh"
#include "perpend/kernels/cuda/device/row_output.cuh"

namespace perpend::device {

// The loops over an item's steps.
template <class Kernel>
class Computer : Warpgroup<Kernel> {
 public:
  using Base = Warpgroup<Kernel>;
  using Element = typename Kernel::Element;
  static constexpr int kScores = Kernel::kScores;
  static constexpr int kBitWords = Kernel::kBitWords;

  using Base::Base;

  __device__ __forceinline__ void run() {
    if constexpr (Kernel::kTeams == 1) Base::start_turns();
    for (RingPlace<Kernel::kItemRing> place;; place.advance()) {
      barrier_wait(shared_.item_full(place.stage), place.parity);
      const RingItem item = shared_.control->items[place.stage];
      arrive_as_warp(shared_.item_empty(place.stage), thread_);
      if (item.is_end()) return;
      compute(item);
    }
  }

 private:
  using Base::current_step;
  using Base::factor;
  using Base::hold_here;
  using Base::issue_scores;
  using Base::issue_values;
  using Base::keys_;
  using Base::load_bits;
  using Base::params_;
  using Base::part_;
  using Base::pass_turn;
  using Base::pass_values;
  using Base::positions_;
  using Base::release_keys;
  using Base::release_queries;
  using Base::release_values;
  using Base::shared_;
  using Base::thread_;
  using Base::values_;
  using Base::wait_for_queries;
  using Base::wait_for_turn;

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
      wait_for_queries();
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

  // Half a step after the other; the values of one are in flight beside the scores of the next.
  template <int kCount>
  __device__ __forceinline__ void walk_in_order(int num_partial, int num_full, float (&o)[kCount],
                                                RowState& rows) {
#pragma unroll 1
    for (int i = 0; i < num_partial; ++i) partial_in_order(o, rows);
    if (num_full == 0) return release_queries();
    full_in_order<false>(o, rows);
#pragma unroll 1
    for (int i = 1; i < num_full; ++i) full_in_order<true>(o, rows);
    release_queries();
    product_wait<0>();
    touch(o);
    release_values();
  }

  template <int kCount>
  __device__ __forceinline__ void partial_in_order(float (&o)[kCount], RowState& rows) {
    barrier_wait(shared_.k_full(keys_.stage), keys_.parity);
    const Step step = current_step();
    const std::uint32_t live = live_halves(step);
    if (live == 0) return pass_step();
    std::uint32_t bits[kBitWords] = {~0U, ~0U};
    if ((step.flags & Step::kHasBitmap) != 0) load_bits(bits);
#pragma unroll 1
    for (int half = live == 2U ? 1 : 0; live >> half != 0; ++half) {
      do_half<true>(o, rows, step, half, half == 0 ? bits[0] : bits[1], live >> half == 1U, false);
      // Where paths meet no product may be in flight.
      product_wait<0>();
      touch(o);
    }
    release_values();
  }

  // Leaves the product with the values in flight, for the next step (kHasBefore) to wait for.
  template <bool kHasBefore, int kCount>
  __device__ __forceinline__ void full_in_order(float (&o)[kCount], RowState& rows) {
    barrier_wait(shared_.k_full(keys_.stage), keys_.parity);
    const Step step = current_step();
    do_half<false>(o, rows, step, 0, 0, false, kHasBefore);
    do_half<false>(o, rows, step, 1, 0, true, false);
  }

  // is_last: no other half needs the keys; has_before: values of the step before are in flight.
  template <bool kPartial, int kCount>
  __device__ __forceinline__ void do_half(float (&o)[kCount], RowState& rows, Step step, int half,
                                          std::uint32_t bits, bool is_last, bool has_before) {
    float s[kScores];
    std::uint32_t p[kScores / 2];
    issue_scores(s, half);
    product_wait<0>();
    touch(s);
    touch(o);
    if (has_before) release_values();
    if (is_last) release_keys();
    const std::uint32_t word[kBitWords] = {bits};
    this->template finish_scores<kPartial>(s, word, step, half);
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
    this->template wait_for_keys<kPartial>(bits);
    const Step step = current_step();
    issue_scores(s);
    product_wait<0>();
    touch(s);
    release_keys();
    this->template finish_scores<kPartial>(s, bits, step);
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
    this->template wait_for_keys<kPartial>(bits);
    const Step step = current_step();
    wait_for_turn();
    issue_scores(s);
    issue_values(o, p);
    pass_turn();
    product_wait<1>();
    touch(s);
    release_keys();
    this->template finish_scores<kPartial>(s, bits, step);
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
};

}  // namespace perpend::device
