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
// the bits of dq may differ from run to run, or in the order of turns, each warp after those before
// it at its strip. After FlashAttention-3, arXiv:2407.08608, section 3.
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
  static constexpr int kQuerySums = Kernel::kPanelColumns / 2;
  using Queries = float[kQuerySums];

  using Destination = typename Kernel::Destination;

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
    if constexpr (Kernel::kOrdered) finish_add();
  }

  __device__ __forceinline__ void walk(const KeyItem& item, Sums& dk, Sums& dv) {
    // Keys behind the end, of which each would only spoil its own row of dk and dv, add to dq.
    const bool is_short = item.k_size < kTileRows;
    const int num_steps = item.num_partial + item.num_full;
    step<true, true>(item, dk, dv);
    if constexpr (Kernel::kOrdered) {
      // Steps with a bitmap come anywhere.
#pragma unroll 1
      for (int i = 1; i < num_steps; ++i) {
        Base::wait_for_inner(0);
        if (is_short || has_bitmap(inner_.stage)) {
          step<true, false>(item, dk, dv);
        } else {
          step<false, false>(item, dk, dv);
        }
      }
    } else {
      const int num_masked = is_short ? num_steps : item.num_partial;
#pragma unroll 1
      for (int i = 1; i < num_masked; ++i) step<true, false>(item, dk, dv);
#pragma unroll 1
      for (int i = max(num_masked, 1); i < num_steps; ++i) step<false, false>(item, dk, dv);
    }
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
    if constexpr (kMasked) load_live_bits(item, bits);
    issue_product(s, 0);
    Base::wait_for_inner(1);
    issue_product(t, 1);
    product_wait<1>();
    touch(s);
    // Here the last addition is long over, and others may wait for it.
    if constexpr (Kernel::kOrdered && !kFirst) finish_add();
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
    if (lane() == 0) shared_.control->destinations[thread_ / 32] = destination_of(item, stage);
    product_wait<1>();
    touch(dv);
    release_inner(1, stage);
    product_wait<0>();
    touch(dk);
    release_inner(0, stage);
    inner_.advance();
  }

  __device__ __forceinline__ bool has_bitmap(int stage) const {
    return (shared_.control->steps[stage].step.flags & Step::kHasBitmap) != 0;
  }
  __device__ __forceinline__ void load_live_bits(const KeyItem& item,
                                                 std::uint32_t (&bits)[kBitWords]) const {
    constexpr std::uint32_t kUpperRow = 0x33333333;
    constexpr std::uint32_t kLowerRow = 0xcccccccc;
    const std::uint32_t live =
        (tile_row() < item.k_size ? kUpperRow : 0) | (tile_row() + 8 < item.k_size ? kLowerRow : 0);
    if (has_bitmap(inner_.stage)) {
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

  // Of the step in this stage.
  __device__ __forceinline__ Destination destination_of(const KeyItem& item, int stage) const {
    const KeyStep entry = shared_.control->steps[stage];
    const auto& lists = params_.pass.lists;
    const int strip = thread_ / 32 % kStepStrips;
    const std::int32_t query = inner_position(lists, entry.step, strip * kStripQueries);
    const int head = item.kv_head * lists.group_size + entry.head;
    Destination to{
        static_cast<std::uint32_t>(params_.pass.dq.row_index(head, part_, item.q_base + query)),
        item.q_len - query, 0, 0};
    if constexpr (Kernel::kOrdered) {
      const QueryTurns& turns = params_.pass.turns;
      const std::int64_t row =
          QueryTurns::first_strip(item.sequence, item.q_base) + query / kStripQueries;
      to.strip = static_cast<std::uint32_t>(turns.row_index(head, part_, row));
      to.turn = shared_.control->turns[stage][strip];
      if (to.turn == QueryTurns::kNone) to.rows = 0;
    }
    return to;
  }

  // What issue_queries() has computed, to its destination.
  __device__ __forceinline__ void add_queries(Queries& dq) {
    touch(dq);
    release(shared_.scores_empty(read_.stage));
    read_.advance();
    const std::uint32_t sums = shared_.query_sums(thread_ / 32);
    finish_add();
    __syncwarp();
    const Destination destination = shared_.control->destinations[thread_ / 32];
    put_queries(dq, sums, destination.row_index);
    fence_engines();
    __syncwarp();
    if (lane() == 0 && destination.rows > 0) {
      float* to = params_.pass.dq.data +
                  static_cast<std::size_t>(destination.row_index) * Kernel::kPanelColumns;
      const int rows = min(destination.rows, kStripQueries);
      if constexpr (Kernel::kOrdered) {
        added_ = destination.strip;
        wait_for_count(params_.pass.turns.done + added_,
                       static_cast<std::uint32_t>(destination.turn));
      }
      add_bytes(to, sums, rows * Kernel::kPanelRowBytes, kEvictLast);
      adds_commit();
    }
  }
  // This warp's last addition has read its sums; where additions have an order, it is done and the
  // next may follow.
  __device__ __forceinline__ void finish_add() {
    if (lane() != 0) return;
    if constexpr (Kernel::kOrdered) {
      if (added_ == kNothing) return;
      adds_wait();
      raise_count(params_.pass.turns.done + added_);
      added_ = kNothing;
    } else {
      adds_wait_read();
    }
  }
  // As sum_place() has them.
  __device__ __forceinline__ void put_queries(const Queries& dq, std::uint32_t sums,
                                              std::uint32_t row_index) const {
    const int row = lane() / 4;
    const auto odd = static_cast<int>((row_index + row) % 2);
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
  static constexpr std::uint32_t kNothing = ~0U;
  std::uint32_t added_ = kNothing;  // the strip whose count waits for the end of the last addition
};

}  // namespace perpend::device
