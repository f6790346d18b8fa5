#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/hopper_gradient_warpgroup.cuh"

namespace perpend::device {

// The loops of one of the two passes over an item's steps.
template <class Kernel>
class GradientComputer : GradientWarpgroup<Kernel> {
 public:
  using Base = GradientWarpgroup<Kernel>;
  using Element = typename Kernel::Element;
  using Pass = typename Kernel::Pass;
  using Base::Base;

  __device__ __forceinline__ void run() {
    Base::for_each_item([this](const typename Pass::Item& item) { compute(item); });
  }

 private:
  using Base::hold_here;
  using Base::inner_;
  using Base::issue_product;
  using Base::issue_sum;
  using Base::kBitWords;
  using Base::kGroups;
  using Base::kPartnerSums;
  using Base::kScores;
  using Base::kSums;
  using Base::load_bits;
  using Base::outer_;
  using Base::params_;
  using Base::part_;
  using Base::release_inner;
  using Base::release_outer;
  using Base::rows_;
  using Base::shared_;
  using typename Base::Delta;
  using typename Base::Lse;
  using typename Base::PartnerSums;
  using typename Base::Sums;
  using typename Base::Weights;

  __device__ __forceinline__ void compute(const typename Pass::Item& item) {
    Sums sums;
    PartnerSums partner_sums;
#pragma unroll
    for (int i = 0; i < kSums; ++i) sums[i] = 0.0F;
#pragma unroll
    for (int i = 0; i < kPartnerSums; ++i) partner_sums[i] = 0.0F;
    const int num_steps = item.num_partial + item.num_full;
    if (num_steps > 0) {
      rows_ = outer_rows(item, Base::tile_row(), params_.pass, params_.common);
      Base::wait_for_outer();
      if constexpr (Kernel::kOverlaps) {
        walk_overlapped(item.num_partial, item.num_full, sums, partner_sums);
      } else {
#pragma unroll 1
        for (int i = 0; i < num_steps; ++i) step(item, i + 1 == num_steps, sums, partner_sums);
      }
      outer_.advance();
    }
    Base::store(item, sums, partner_sums);
  }

  // --- one step after the other ---

  __device__ __forceinline__ void step(const typename Pass::Item& item, bool is_last, Sums& sums,
                                       PartnerSums& partner_sums) {
    Base::wait_for_inner(0);
    const typename Pass::Entry entry = shared_.control->steps[inner_.stage];
    const Step step = Pass::step_of(entry);
    const std::uint32_t live = live_products(step);
    if (live == 0) return pass_step(is_last);
#pragma unroll 1
    for (int product = 0; product < Kernel::kProducts; ++product) {
      if ((live >> product & 1U) == 0) continue;
      const bool is_last_product = live >> product == 1U;
      do_products(item, entry, product, is_last && is_last_product, sums, partner_sums);
    }
    release_inner(0, inner_.stage);
    release_inner(1, inner_.stage);
    inner_.advance();
  }

  // Of a step, those in which this part has a live pair.
  __device__ __forceinline__ std::uint32_t live_products(Step step) const {
    const std::uint32_t is_live = step.flags >> part_ & 1U;
    if constexpr (Kernel::kProducts == 1) return is_live;
    constexpr std::uint32_t kOfHalf = (1U << 64 / Kernel::kProductRows) - 1;
    if constexpr (Kernel::kColumns) return is_live * kOfHalf;
    const std::uint32_t halves = step.flags >> (Step::kHalvesShift + 2 * part_);
    return (halves & 1U) * kOfHalf | (halves >> 1 & 1U) * (kOfHalf << 64 / Kernel::kProductRows);
  }

  __device__ __forceinline__ void do_products(const typename Pass::Item& item,
                                              const typename Pass::Entry& entry, int product,
                                              bool is_last, Sums& sums, PartnerSums& partner_sums) {
    float s[kScores];
    float t[kScores];
    issue_product(s, 0, product);
    Base::wait_for_inner(1);
    issue_product(t, 1, product);
    std::uint32_t bits[kBitWords];
    const bool is_partial = (Pass::step_of(entry).flags & Step::kHasBitmap) != 0;
    if (is_partial) load_bits(bits, product);
    if constexpr (Kernel::kChanges) {
      product_wait<0>();
      touch(s);
      touch(t);
      change(item, entry, product, s, t);
      if (is_partial) {
        mask_weights<0, kGroups>(s, bits);
        mask_weights<0, kGroups>(t, bits);
      }
    } else {
      product_wait<1>();
      touch(s);
      weigh<0, kGroups>(s, params_.common.scores.factor, Lse{*this, product});
      if (is_partial) mask_weights<0, kGroups>(s, bits);
      hold_here(s);
      product_wait<0>();
      touch(t);
      differentiate(s, t, Delta{*this, product});
    }
    if (is_last) release_outer();
    Weights p;
    Weights d_s;
    if constexpr (Kernel::kColumns) pack_scores<Element>(s, p);
    pack_scores<Element>(t, d_s);
    if constexpr (Kernel::kColumns) issue_sum(partner_sums, p, 1, inner_.stage, product);
    issue_sum(sums, d_s, 0, inner_.stage, product);
    product_wait<0>();
    touch(sums);
    touch(partner_sums);
  }

  __device__ __forceinline__ void pass_step(bool is_last) {
    Base::wait_for_inner(1);
    if (is_last) release_outer();
    release_inner(0, inner_.stage);
    release_inner(1, inner_.stage);
    inner_.advance();
  }

  // --- the products of a step beside the exponentials of the next ---

  __device__ __forceinline__ void walk_overlapped(int num_partial, int num_full, Sums& sums,
                                                  PartnerSums& partner_sums) {
    Weights p;
    Weights d_s;
    if (num_partial > 0) {
      first_step<true>(p, d_s);
    } else {
      first_step<false>(p, d_s);
    }
    const int num_steps = num_partial + num_full;
#pragma unroll 1
    for (int i = 1; i < num_partial; ++i) next_step<true>(sums, partner_sums, p, d_s);
#pragma unroll 1
    for (int i = max(num_partial, 1); i < num_steps; ++i) {
      next_step<false>(sums, partner_sums, p, d_s);
    }
    release_outer();
    issue_sum(partner_sums, p, 1, inner_.stage);
    issue_sum(sums, d_s, 0, inner_.stage);
    product_wait<0>();
    touch(sums);
    touch(partner_sums);
    release_inner(0, inner_.stage);
    release_inner(1, inner_.stage);
    inner_.advance();
  }

  template <bool kPartial>
  __device__ __forceinline__ void first_step(Weights& p, Weights& d_s) {
    float s[kScores];
    float t[kScores];
    std::uint32_t bits[kBitWords];
    Base::wait_for_inner(0);
    if constexpr (kPartial) load_bits(bits);
    issue_product(s, 0);
    Base::wait_for_inner(1);
    issue_product(t, 1);
    product_wait<1>();
    touch(s);
    weigh<0, kGroups>(s, params_.common.scores.factor, Lse{*this});
    if constexpr (kPartial) mask_weights<0, kGroups>(s, bits);
    product_wait<0>();
    touch(t);
    differentiate(s, t, Delta{*this});
    pack_scores<Element>(s, p);
    pack_scores<Element>(t, d_s);
  }

  // The sums of the step before stand behind the scores of this one; half of the exponentials cover
  // the sum for dv, the other half that for dk and the products with d_o.
  template <bool kPartial>
  __device__ __forceinline__ void next_step(Sums& sums, PartnerSums& partner_sums, Weights& p,
                                            Weights& d_s) {
    float s[kScores];
    float t[kScores];
    std::uint32_t bits[kBitWords];
    const int before = inner_.stage;
    inner_.advance();
    Base::wait_for_inner(0);
    if constexpr (kPartial) load_bits(bits);
    issue_product(s, 0);
    issue_sum(partner_sums, p, 1, before);
    issue_sum(sums, d_s, 0, before);
    product_wait<2>();
    touch(s);
    weigh<0, kGroups / 2>(s, params_.common.scores.factor, Lse{*this});
    if constexpr (kPartial) mask_weights<0, kGroups / 2>(s, bits);
    hold_here(s);
    product_wait<1>();
    touch(partner_sums);
    release_inner(1, before);
    Base::wait_for_inner(1);
    issue_product(t, 1);
    weigh<kGroups / 2, kGroups>(s, params_.common.scores.factor, Lse{*this});
    if constexpr (kPartial) mask_weights<kGroups / 2, kGroups>(s, bits);
    hold_here(s);
    product_wait<1>();
    touch(sums);
    release_inner(0, before);
    product_wait<0>();
    touch(t);
    differentiate(s, t, Delta{*this});
    pack_scores<Element>(s, p);
    pack_scores<Element>(t, d_s);
  }

  __device__ __forceinline__ void change(const typename Pass::Item& item,
                                         const typename Pass::Entry& entry, int product,
                                         float (&s)[kScores], float (&t)[kScores]) const {
    const auto& lists = params_.pass.lists;
    const OuterPositions positions =
        positions_at(rows_, item, entry, lists.group_size, params_.common.scores);
    weigh_changed(s, t, params_.common.scores, positions, Lse{*this, product},
                  Delta{*this, product}, [&](int column) {
                    return column_position(item, entry, product * Kernel::kProductRows + column,
                                           lists);
                  });
  }
};

}  // namespace perpend::device
