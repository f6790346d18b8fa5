#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/hopper_gradient_warpgroup.cuh"
#include "perpend/kernels/cuda/device/score_change.cuh"

namespace perpend::device {

// The loops over an item's steps that compute dq beside dk and dv: five products a step instead of
// the seven of two passes. s, t, p and d_s have rows of keys; d_s goes through shared memory to the
// other warpgroup, since each has half of the columns of dq = d_s^T k, over all keys of the item.
// The dq of a step is computed one step late, when nobody waits for d_s any more, and is added to
// sums in global memory while the products for dv and dk run: in whatever order CTAs come, so that
// the bits of dq may differ from run to run. After FlashAttention-3, arXiv:2407.08608, section 3.
//
// A step of 64 queries at head_dim 128 is 10.5 MFLOP, 2560 clocks of the tensor cores, and moves
// 368 KB through shared memory, 2900 clocks; 32 KB come from L2 and 32 KB of additions go there, 20
// bytes a clock of the 40 that an SM gets. Registers: 128 for dk and dv and, before dq has its 32,
// 64 for s and t.
template <class Kernel>
class FusedGradientComputer : GradientWarpgroup<Kernel> {
 public:
  using Base = GradientWarpgroup<Kernel>;
  using Element = typename Kernel::Element;
  using Layout = typename Kernel::Layout;
  using ScoresLayout = typename Kernel::ScoresLayout;
  using Base::Base;

  __device__ __forceinline__ void run() {
    Base::for_each_item([this](const KeyItem& item) { compute(item); });
    if (lane() == 0) adds_wait();
  }

 private:
  using Base::hold_here;
  using Base::inner_;
  using Base::issue_product;
  using Base::issue_sum;
  using Base::kBitWords;
  using Base::kGroups;
  using Base::kScores;
  using Base::kSums;
  using Base::load_bits;
  using Base::outer_;
  using Base::params_;
  using Base::part_;
  using Base::release;
  using Base::release_inner;
  using Base::shared_;
  using Base::thread_;
  using Base::tile_row;
  using typename Base::Delta;
  using typename Base::Lse;
  using typename Base::Sums;
  using typename Base::Weights;
  static constexpr int kWarpRows = 16;
  static constexpr int kQuerySums = Kernel::kPanelColumns / 2;
  using Queries = float[kQuerySums];

  // Where this warp adds its rows of a step's dq.
  struct Destination {
    std::uint32_t row_index;
    std::int32_t rows;  // none where this is not positive
  };

  __device__ __forceinline__ void compute(const KeyItem& item) {
    Sums dk;
    Sums dv;
#pragma unroll
    for (int i = 0; i < kSums; ++i) dk[i] = dv[i] = 0.0F;
    if (item.num_partial + item.num_full > 0) {
      Base::wait_for_outer();
      walk(item, dk, dv);
      outer_.advance();
    }
    Base::store(item, dk, dv);
  }

  __device__ __forceinline__ void walk(const KeyItem& item, Sums& dk, Sums& dv) {
    // Keys behind the end, of which each would only spoil its own row of dk and dv, add to dq.
    const bool is_short = item.k_size < kTileRows;
    const int num_steps = item.num_partial + item.num_full;
    const int num_masked = is_short ? num_steps : item.num_partial;
    step<true, true>(item, dk, dv);
#pragma unroll 1
    for (int i = 1; i < num_masked; ++i) step<true, false>(item, dk, dv);
#pragma unroll 1
    for (int i = max(num_masked, 1); i < num_steps; ++i) step<false, false>(item, dk, dv);
    release(shared_.outer_empty(1, outer_.stage));
    Queries dq;
    issue_queries(dq);
    product_wait<0>();
    add_queries(dq);
    release(shared_.outer_empty(0, outer_.stage));
  }

  template <bool kMasked, bool kFirst>
  __device__ __forceinline__ void step(const KeyItem& item, Sums& dk, Sums& dv) {
    const int stage = inner_.stage;
    float s[kScores];
    float t[kScores];
    std::uint32_t bits[kBitWords];
    Base::wait_for_inner(0);
    const KeyStep entry = shared_.control->steps[stage];
    if constexpr (kMasked) load_live_bits(item, entry.step, bits);
    issue_product(s, 0);
    Base::wait_for_inner(1);
    issue_product(t, 1);
    const Destination destination = destination_of(item, entry);
    product_wait<1>();
    touch(s);
    weigh<0, kGroups>(s, params_.common.scores.factor, Lse{*this});
    if constexpr (kMasked) mask_weights<0, kGroups>(s, bits);
    hold_here(s);
    product_wait<0>();
    touch(t);
    differentiate(s, t, Delta{*this});
    Weights p;
    Weights d_s;
    pack_scores<Element>(s, p);
    pack_scores<Element>(t, d_s);
    put_scores(d_s);
    Queries dq;
    if constexpr (!kFirst) issue_queries(dq);
    issue_sum(dv, p, 1, stage);
    issue_sum(dk, d_s, 0, stage);
    if constexpr (!kFirst) {
      product_wait<2>();
      add_queries(dq);
    }
    destination_ = destination;
    product_wait<1>();
    touch(dv);
    release_inner(1, stage);
    product_wait<0>();
    touch(dk);
    release_inner(0, stage);
    inner_.advance();
  }

  __device__ __forceinline__ void load_live_bits(const KeyItem& item, Step step,
                                                 std::uint32_t (&bits)[kBitWords]) const {
    constexpr std::uint32_t kUpperRow = 0x33333333;
    constexpr std::uint32_t kLowerRow = 0xcccccccc;
    const std::uint32_t live =
        (tile_row() < item.k_size ? kUpperRow : 0) | (tile_row() + 8 < item.k_size ? kLowerRow : 0);
    if ((step.flags & Step::kHasBitmap) != 0) {
      load_bits(bits);
#pragma unroll
      for (int i = 0; i < kBitWords; ++i) bits[i] &= live;
    } else {
#pragma unroll
      for (int i = 0; i < kBitWords; ++i) bits[i] = live;
    }
  }

  // --- gradients of scores, from each warpgroup to both ---

  __device__ __forceinline__ void put_scores(const Weights& d_s) {
    barrier_wait(shared_.scores_empty(written_.stage), written_.parity ^ 1);
    const int row = thread_ / 32 * 16 + lane() % 16;
    const std::uint32_t to = shared_.scores(written_.stage) + row * ScoresLayout::kRowBytes;
#pragma unroll
    for (int panel = 0; panel < ScoresLayout::kPanels; ++panel) {
#pragma unroll
      for (int chunk = 0; chunk < 8; chunk += 2) {
        const int column = (chunk + lane() / 16) ^ row % kAtomRows;
        store_matrices(to + panel * kTileRows * ScoresLayout::kRowBytes + column * 16,
                       d_s + 16 * panel + 2 * chunk);
      }
    }
    fence_engines();
    release(shared_.scores_full(written_.stage));
    written_.advance();
  }

  // dq = d_s^T k of the step whose scores were put before the last, or last.
  __device__ __forceinline__ void issue_queries(Queries& dq) {
    barrier_wait(shared_.scores_full(read_.stage), read_.parity);
    const std::uint32_t scores =
        descriptor_low(shared_.scores(read_.stage), ScoresLayout::row_leading(kTileRows));
    const std::uint32_t keys =
        descriptor_low(shared_.outer(0, outer_.stage) +
                           Layout::offset(0, part_ * Kernel::kPanelColumns, kTileRows),
                       Layout::row_leading(kTileRows));
    touch(dq);
    product_fence();
#pragma unroll
    for (int i = 0; i < kTileRows / kStepDepth; ++i) {
      TransposedProduct<Element, Kernel::kPanelColumns>::add(
          dq, descriptor(scores + ScoresLayout::row_step(i), ScoresLayout::kDescriptorHigh),
          descriptor(keys + Layout::row_step(i), Layout::kDescriptorHigh), i != 0);
    }
    product_commit();
  }

  // --- sums for dq ---

  __device__ __forceinline__ Destination destination_of(const KeyItem& item,
                                                        const KeyStep& entry) const {
    const auto& lists = params_.pass.lists;
    const int first = thread_ / 32 % 4 * kWarpRows;
    const std::int32_t query = inner_position(lists, entry.step, first);
    const int head = item.kv_head * lists.group_size + entry.head;
    return {static_cast<std::uint32_t>(params_.pass.dq.row_index(head, part_, item.q_base + query)),
            item.q_len - query};
  }

  // What issue_queries() has computed, to its destination.
  __device__ __forceinline__ void add_queries(Queries& dq) {
    touch(dq);
    release(shared_.scores_empty(read_.stage));
    read_.advance();
    const std::uint32_t sums = shared_.query_sums(thread_ / 32);
    if (lane() == 0) adds_wait_read();
    __syncwarp();
    put_queries(dq, sums);
    fence_engines();
    __syncwarp();
    if (lane() == 0 && destination_.rows > 0) {
      float* to = params_.pass.dq.data +
                  static_cast<std::size_t>(destination_.row_index) * Kernel::kPanelColumns;
      add_bytes(to, sums, min(destination_.rows, kWarpRows) * Kernel::kPanelRowBytes, kEvictLast);
      adds_commit();
    }
  }
  // As sum_place() has them.
  __device__ __forceinline__ void put_queries(const Queries& dq, std::uint32_t sums) const {
    const int row = lane() / 4;
    const auto odd = static_cast<int>((destination_.row_index + row) % 2);
    const std::uint32_t upper = sums + row * Kernel::kPanelRowBytes + lane() % 4 * 16;
#pragma unroll
    for (int i = 0; i < kQuerySums / 8; ++i) {
      const float* of = dq + 8 * i;
      const std::uint32_t to = upper + (i ^ odd) * 64;
      store_shared_four(to, of[0], of[1], of[4], of[5]);
      store_shared_four(to + 8 * Kernel::kPanelRowBytes, of[2], of[3], of[6], of[7]);
    }
  }

  __device__ __forceinline__ int lane() const { return thread_ % 32; }

  RingPlace<Kernel::kScoreBuffers> written_;
  RingPlace<Kernel::kScoreBuffers> read_;
  Destination destination_{};  // of the step whose dq is not added yet
};

}  // namespace perpend::device
