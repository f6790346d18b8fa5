#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/gradient_scores.cuh"
#include "perpend/kernels/cuda/device/hopper_gradient_kernel.cuh"
#include "perpend/kernels/cuda/device/softmax.cuh"
#include "perpend/kernels/cuda/device/wgmma.cuh"

namespace perpend::device {

// A warpgroup of the computing ones: 64 outer rows of each item. With x, x' the outer operands (q,
// d_o or k, v) and y, y' the inner ones, s = x y^T and t = x' y'^T have a row for each outer row,
// so that p and d_s are in the registers of the next products: d_s y is dq or dk, p y' is dv. Here
// are its products, its places in the rings and what it writes; the order is its user's.
template <class Kernel>
class GradientWarpgroup {
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

  __device__ __forceinline__ GradientWarpgroup(const Params& params,
                                               const GradientShared<Kernel>& shared)
      : params_(params),
        shared_(shared),
        thread_(static_cast<int>(threadIdx.x) - kGradientCopyThreads),
        part_(__shfl_sync(0xffffffffU, thread_ / 128, 0)) {}

 protected:
  using Sums = float[kSums];
  using PartnerSums = float[kPartnerSums];
  using Weights = std::uint32_t[kScores / 2];

  // compute(item) for all items of the CTA.
  template <class Compute>
  __device__ __forceinline__ void for_each_item(Compute compute) {
    for (RingPlace<kGradientItemRing> place;; place.advance()) {
      barrier_wait(shared_.item_full(place.stage), place.parity);
      const typename Pass::Item item = shared_.control->items[place.stage];
      release(shared_.item_empty(place.stage));
      if (Pass::is_end(item)) return;
      compute(item);
    }
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

  // --- statistics ---

  // -lse of a group of registers: of the columns of the stage, or of the rows.
  struct Lse {
    const GradientWarpgroup& of;
    int product = 0;
    __device__ __forceinline__ FourStatistics operator()(int group) const {
      return of.statistics(0, product * kGroups + group, of.rows_.negative_lse);
    }
  };
  struct Delta {
    const GradientWarpgroup& of;
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

  // For the operand of the step in the present stage.
  __device__ __forceinline__ void wait_for_inner(int operand) const {
    const bool is_cleaned = inner_needs_cleaning<Kernel>(params_.common);
    barrier_wait(is_cleaned ? shared_.inner_clean(operand, inner_.stage)
                            : shared_.inner_full(operand, inner_.stage),
                 inner_.parity);
  }
  __device__ __forceinline__ void wait_for_outer() const {
    const bool is_cleaned = outer_needs_cleaning<Kernel>(params_.common);
    for (int operand = 0; operand < 2; ++operand) {
      barrier_wait(
          is_cleaned ? shared_.outer_clean(operand) : shared_.outer_full(operand, outer_.stage),
          outer_.parity);
    }
  }
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
    arrive_as_warp(empty, thread_);
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
