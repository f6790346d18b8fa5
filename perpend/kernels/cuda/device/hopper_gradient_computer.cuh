#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/gradient_scores.cuh"
#include "perpend/kernels/cuda/device/hopper_gradient_copier.cuh"
#include "perpend/kernels/cuda/device/softmax.cuh"
#include "perpend/kernels/cuda/device/wgmma.cuh"

namespace perpend::device {

// A warpgroup of the computing ones: 64 outer rows of each item. With x, x' the outer operands (q,
// d_o or k, v) and y, y' the inner ones, s = x y^T and t = x' y'^T have a row for each outer row,
// so that p and d_s are in the registers of the next products: d_s y is dq or dk, p y' is dv.
template <class Kernel>
class GradientComputer {
 public:
  using Element = typename Kernel::Element;
  using Pass = typename Kernel::Pass;
  using Params = typename Kernel::Params;
  using Layout = typename Kernel::Layout;
  static constexpr int kHeadDim = Kernel::kHeadDim;
  static constexpr int kScores = Kernel::kScores;
  static constexpr int kBitWords = Kernel::kBitWords;
  static constexpr int kGroups = kScores / 4;
  static constexpr int kProductBytes = Kernel::kProductRows * Layout::kRowBytes;
  static constexpr int kSums = kHeadDim / 2;
  static constexpr int kPartnerSums = Kernel::kColumns ? kSums : 1;

  __device__ __forceinline__ GradientComputer(const Params& params,
                                              const GradientShared<Kernel>& shared)
      : params_(params),
        shared_(shared),
        thread_(static_cast<int>(threadIdx.x) - kGradientCopyThreads),
        part_(__shfl_sync(0xffffffffU, thread_ / 128, 0)) {}

  __device__ __forceinline__ void run() {
    for (RingPlace<kGradientItemRing> place;; place.advance()) {
      barrier_wait(shared_.item_full(place.stage), place.parity);
      const typename Pass::Item item = shared_.control->items[place.stage];
      release(shared_.item_empty(place.stage));
      if (Pass::is_end(item)) return;
      compute(item);
    }
  }

 private:
  using Sums = float[kSums];
  using PartnerSums = float[kPartnerSums];
  using Weights = std::uint32_t[kScores / 2];

  __device__ __forceinline__ void compute(const typename Pass::Item& item) {
    Sums sums;
    PartnerSums partner_sums;
#pragma unroll
    for (int i = 0; i < kSums; ++i) sums[i] = 0.0F;
#pragma unroll
    for (int i = 0; i < kPartnerSums; ++i) partner_sums[i] = 0.0F;
    const int num_steps = item.num_partial + item.num_full;
    if (num_steps > 0) {
      rows_ = outer_rows(item, tile_row(), params_.pass, params_.common);
      barrier_wait(shared_.outer_full(0, outer_.stage), outer_.parity);
      barrier_wait(shared_.outer_full(1, outer_.stage), outer_.parity);
      if constexpr (Kernel::kOverlaps) {
        walk_overlapped(item.num_partial, item.num_full, sums, partner_sums);
      } else {
#pragma unroll 1
        for (int i = 0; i < num_steps; ++i) step(item, i + 1 == num_steps, sums, partner_sums);
      }
      outer_.advance();
    }
    store(item, sums, partner_sums);
  }

  // --- one step after the other ---

  __device__ __forceinline__ void step(const typename Pass::Item& item, bool is_last, Sums& sums,
                                       PartnerSums& partner_sums) {
    barrier_wait(shared_.inner_full(0, inner_.stage), inner_.parity);
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
    barrier_wait(shared_.inner_full(1, inner_.stage), inner_.parity);
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
    barrier_wait(shared_.inner_full(1, inner_.stage), inner_.parity);
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
    barrier_wait(shared_.inner_full(0, inner_.stage), inner_.parity);
    if constexpr (kPartial) load_bits(bits);
    issue_product(s, 0);
    barrier_wait(shared_.inner_full(1, inner_.stage), inner_.parity);
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
    barrier_wait(shared_.inner_full(0, inner_.stage), inner_.parity);
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
    barrier_wait(shared_.inner_full(1, inner_.stage), inner_.parity);
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

  // --- products ---

  // s = x y^T, or t of the partners; `product`: which of a step.
  __device__ __forceinline__ void issue_product(float (&s)[kScores], int operand,
                                                int product = 0) const {
    const std::uint32_t outer =
        descriptor_low(shared_.outer(operand, outer_.stage) + part_ * kPartRows * Layout::kRowBytes,
                       Layout::kColumnLeading);
    const std::uint32_t inner = descriptor_low(
        shared_.inner(operand, inner_.stage) + product * kProductBytes, Layout::kColumnLeading);
    touch(s);
    product_fence();
#pragma unroll
    for (int i = 0; i < kHeadDim / kStepDepth; ++i) {
      SharedProduct<Element, Kernel::kProductRows>::add(
          s, descriptor(outer + Layout::column_step(i, kTileRows), Layout::kDescriptorHigh),
          descriptor(inner + Layout::column_step(i, Kernel::kInnerRows), Layout::kDescriptorHigh),
          i != 0);
    }
    product_commit();
  }

  // sums += weights y, or y' of the partners.
  template <int kCount>
  __device__ __forceinline__ void issue_sum(float (&sums)[kCount], const Weights& weights,
                                            int operand, int stage, int product = 0) const {
    const std::uint32_t inner =
        descriptor_low(shared_.inner(operand, stage) + product * kProductBytes,
                       Layout::row_leading(Kernel::kInnerRows));
    touch(sums);
    product_fence();
#pragma unroll
    for (int i = 0; i < Kernel::kProductRows / kStepDepth; ++i) {
      RegisterProduct<Element, kHeadDim>::add(
          sums, weights + 4 * i, descriptor(inner + Layout::row_step(i), Layout::kDescriptorHigh));
    }
    product_commit();
  }

  // --- statistics and changes ---

  // -lse of a group of registers: of the columns of the stage, or of the rows.
  struct Lse {
    const GradientComputer& of;
    int product = 0;
    __device__ __forceinline__ FourStatistics operator()(int group) const {
      return of.statistics(0, product * kGroups + group, of.rows_.negative_lse);
    }
  };
  struct Delta {
    const GradientComputer& of;
    int product = 0;
    __device__ __forceinline__ FourStatistics operator()(int group) const {
      return of.statistics(1, product * kGroups + group, of.rows_.delta);
    }
  };
  __device__ __forceinline__ FourStatistics statistics(int operand, int group,
                                                       const float (&of_rows)[2]) const {
    if constexpr (Kernel::kColumns) {
      const float2 pair = load_shared_pair(shared_.statistics(operand, inner_.stage) +
                                           static_cast<std::uint32_t>(group * 32) +
                                           static_cast<std::uint32_t>(thread_ % 4 * 8));
      return {{pair.x, pair.y, pair.x, pair.y}};
    } else {
      return {{of_rows[0], of_rows[0], of_rows[1], of_rows[1]}};
    }
  }

  // Of the first row of the thread.
  __device__ __forceinline__ int tile_row() const { return thread_ / 32 * 16 + thread_ % 32 / 4; }

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

  // --- outputs ---

  __device__ __forceinline__ void store(const typename Pass::Item& item, const Sums& sums,
                                        const PartnerSums& partner_sums) const {
    const float scale = params_.common.scale;
    if constexpr (Kernel::kColumns) {
      store_rows(item, sums, scale, params_.pass.dk);
      store_rows(item, partner_sums, 1.0F, params_.pass.dv);
    } else {
      store_rows(item, sums, scale, params_.pass.dq);
    }
  }
  __device__ __forceinline__ void store_rows(const typename Pass::Item& item, const Sums& sums,
                                             float factor, const GradientOutput& output) const {
    const auto target = [&](int row) {
      return outer_target(output, item, row, params_.pass, params_.common);
    };
    write_row<Element, 0>(sums, factor, target(tile_row()));
    write_row<Element, 1>(sums, factor, target(tile_row() + 8));
  }

  // --- barriers ---

  __device__ __forceinline__ void load_bits(std::uint32_t (&bits)[kBitWords],
                                            int product = 0) const {
    const int column = product * Kernel::kProductRows;
    const std::uint32_t from =
        shared_.bitmap(inner_.stage) + (thread_ * Kernel::kStepBitWords + column / 64) * 4;
#pragma unroll
    for (int i = 0; i < kBitWords; ++i) bits[i] = load_shared_word(from + i * 4);
    bits[0] >>= column % 64 / 2;
  }
  // Nothing ties the exponentials before a wait to that place, and the assembler would move them
  // behind it; it does not move them across a branch, which this wait for what is over contains.
  __device__ __forceinline__ void hold_here(float (&s)[kScores]) const {
    touch(s);
    barrier_wait(shared_.done(), 0);
  }
  // A part may have no product between two waits, which would keep its warps together: each
  // arrives.
  __device__ __forceinline__ void release(std::uint32_t empty) const {
    __syncwarp();
    if (thread_ % 32 == 0) barrier_arrive(empty);
  }
  __device__ __forceinline__ void release_outer() const {
    release(shared_.outer_empty(0, outer_.stage));
    release(shared_.outer_empty(1, outer_.stage));
  }
  __device__ __forceinline__ void release_inner(int operand, int stage) const {
    release(shared_.inner_empty(operand, stage));
  }

  const Params& params_;
  const GradientShared<Kernel>& shared_;
  int thread_;  // of the computing ones
  int part_;
  RingPlace<Kernel::kOuterBuffers> outer_;
  RingPlace<Kernel::kStages> inner_;
  OuterRows rows_;
};

}  // namespace perpend::device
