#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/hopper_kernel.cuh"
#include "perpend/kernels/cuda/device/hopper_products.cuh"
#include "perpend/kernels/cuda/device/score_change.cuh"
#include "perpend/kernels/cuda/device/softmax.cuh"

namespace perpend::device {

// A warpgroup of the computing ones: its products, its place in the rings, and the turns that it
// takes with the other one of its team.
template <class Kernel>
class Warpgroup {
 public:
  using Element = typename Kernel::Element;
  using Layout = typename Kernel::Layout;
  static constexpr int kScores = Kernel::kScores;
  static constexpr int kBitWords = Kernel::kBitWords;

  __device__ __forceinline__ Warpgroup(const HopperForwardParams& params,
                                       const HopperShared<Kernel>& shared, int team)
      : params_(params),
        shared_(shared),
        thread_(static_cast<int>(threadIdx.x) - kCopyThreads - team * kTileThreads),
        part_(__shfl_sync(0xffffffffU, thread_ / 128, 0)) {}

 protected:
  __device__ __forceinline__ void issue_scores(float (&s)[kScores], int chunk = 0) {
    const std::uint32_t k_low =
        descriptor_low(shared_.keys(keys_.stage) + chunk * Kernel::kColumns * Layout::kRowBytes,
                       Layout::kColumnLeading);
    issue_key_product<Element, Kernel::kHeadDim, kTileRows, Kernel::kKeys>(s, q_low_, k_low);
  }

  template <int kCount>
  __device__ __forceinline__ void issue_values(float (&o)[kCount],
                                               const std::uint32_t (&p)[kScores / 2],
                                               int chunk = 0) {
    wait_for_values();
    const std::uint32_t v_low =
        descriptor_low(shared_.values(values_.stage) + chunk * Kernel::kColumns * Layout::kRowBytes,
                       Layout::row_leading(Kernel::kKeys));
    issue_value_product<Element>(o, p, v_low);
  }

  template <bool kPartial>
  __device__ __forceinline__ void wait_for_keys(std::uint32_t (&bits)[kBitWords]) {
    barrier_wait(shared_.k_full(keys_.stage), keys_.parity);
    if constexpr (kPartial) load_bits(bits);
  }

  // Before the keys are released: the bitmap goes with them.
  __device__ __forceinline__ void load_bits(std::uint32_t (&bits)[kBitWords]) const {
    const std::uint32_t from = shared_.bitmap(keys_.stage) + thread_ * kBitWords * 4;
    if constexpr (kBitWords == 2) {
      load_shared_words(bits, from);
    } else {
      bits[0] = load_shared_word(from);
    }
  }

  __device__ __forceinline__ Step current_step() const {
    if constexpr (Kernel::kWarpsRelease || Kernel::kChanges)
      return shared_.control->steps[keys_.stage];
    return {};
  }

  template <bool kPartial>
  __device__ __forceinline__ void finish_scores(float (&s)[kScores],
                                                const std::uint32_t (&bits)[kBitWords], Step step,
                                                int chunk = 0) const {
    if constexpr (Kernel::kChanges) {
      change_scores(s, positions_, params_.common, step, chunk * Kernel::kColumns);
    }
    if constexpr (kPartial) mask_scores(s, bits);
  }

  __device__ __forceinline__ float factor() const {
    return Kernel::kChanges ? 1.0F : params_.common.scores.factor;
  }

  // The two parts take turns at issuing products: part 0 has the first, each
  // passes it to the other.
  __device__ __forceinline__ void start_turns() const {
    if (part_ == 0) named_barrier_arrive(kTurnOfPart0, kTileThreads);
  }
  __device__ __forceinline__ void wait_for_turn() const {
    named_barrier_sync(kTurnOfPart0 + part_, kTileThreads);
  }
  __device__ __forceinline__ void pass_turn() const {
    named_barrier_arrive(kTurnOfPart0 + 1 - part_, kTileThreads);
  }

  // Nothing ties the exponentials before a wait to that place, and the assembler would move them
  // behind it; it does not move them across a branch, which this wait for what is over contains.
  __device__ __forceinline__ void hold_here(float (&s)[kScores]) const {
    touch(s);
    barrier_wait(shared_.done(), 0);
  }

  __device__ __forceinline__ void release(std::uint32_t empty) const {
    if constexpr (Kernel::kWarpsRelease) {
      arrive_as_warp(empty, thread_);
    } else {
      arrive_as_warpgroup(empty, thread_);
    }
  }
  __device__ __forceinline__ void release_keys() {
    release(shared_.k_empty(keys_.stage));
    keys_.advance();
  }
  __device__ __forceinline__ void release_values() {
    release(shared_.v_empty(values_.stage));
    values_.advance();
  }
  __device__ __forceinline__ void pass_values() {
    wait_for_values();
    release_values();
  }
  __device__ __forceinline__ void wait_for_values() const {
    const bool is_ragged = params_.common.kv_is_ragged;
    barrier_wait(is_ragged ? shared_.v_clean(values_.stage) : shared_.v_full(values_.stage),
                 values_.parity);
  }
  __device__ __forceinline__ void wait_for_queries() {
    barrier_wait(shared_.q_full(queries_.stage), queries_.parity);
    q_low_ = descriptor_low(shared_.queries(queries_.stage) + part_ * kPartRows * Layout::kRowBytes,
                            Layout::kColumnLeading);
  }
  __device__ __forceinline__ void release_queries() {
    release(shared_.q_empty(queries_.stage));
    queries_.advance();
  }

  static constexpr int kTurnOfPart0 = 1;  // named barriers

  const HopperForwardParams& params_;
  const HopperShared<Kernel>& shared_;
  int thread_;  // of the team's computing ones
  int part_;
  RingPlace<Kernel::kStages> keys_;
  RingPlace<Kernel::kStages> values_;
  RingPlace<Kernel::kQueryBuffers> queries_;
  std::uint32_t q_low_ = 0;
  ScorePositions positions_{};
};

}  // namespace perpend::device
