#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/hopper_decode_kernel.cuh"
#include "perpend/kernels/cuda/device/hopper_products.cuh"
#include "perpend/kernels/cuda/device/row_output.cuh"
#include "perpend/kernels/cuda/device/score_change.cuh"
#include "perpend/kernels/cuda/device/softmax.cuh"

namespace perpend::device {

// A warpgroup that computes one part of each item. All warps pass through all slots, whether their
// part has the step or not.
template <class Kernel>
class DecodeComputer {
 public:
  using Element = typename Kernel::Element;
  using Layout = typename Kernel::Layout;
  static constexpr int kHeadDim = Kernel::kHeadDim;
  static constexpr int kKeys = Kernel::kKeys;
  static constexpr int kScores = Kernel::kScores;

  __device__ __forceinline__ DecodeComputer(const HopperDecodeParams& params,
                                            const DecodeShared<Kernel>& shared)
      : params_(params),
        shared_(shared),
        thread_(static_cast<int>(threadIdx.x)),
        part_(__shfl_sync(0xffffffffU, thread_ / 128, 0)) {}

  __device__ __forceinline__ void run() {
    for (RingPlace<Kernel::kItemRing> place;; place.advance()) {
      barrier_wait(shared_.item_full(place.stage), place.parity);
      const Item item = shared_.control->items[place.stage];
      release(shared_.item_empty(place.stage));
      if (item.q_size == 0) return;
      compute(item);
    }
  }

 private:
  using SlotStep = typename Kernel::SlotStep;

  __device__ __forceinline__ void compute(const Item& item) {
    const Place place = place_of(item, params_.common.q_is_ragged);
    const int group_size = params_.common.lists.group_size;
    const int part_queries = place.is_packed ? kPartRows / group_size : kPartRows;
    const int num_steps = item.num_partial + item.num_full;
    if (part_ * part_queries >= place.q_size) {
      for (int i = 0; i < num_steps; ++i) pass_step(take_step());
      return;
    }
    const int tile_row = thread_ / 32 * 16 + thread_ % 32 / 4;
    if constexpr (Kernel::kChanges) {
      positions_ = score_positions(place, tile_row, params_.common);
    }
    load_queries(place);
    float o[kHeadDim / 2];
#pragma unroll
    for (int i = 0; i < kHeadDim / 2; ++i) o[i] = 0.0F;
    RowState rows;
#pragma unroll 1
    for (int i = 0; i < num_steps; ++i) do_step(o, rows);
    if (item.split_row == Item::kUncut) {
      store_row<Element, 0>(o, rows, place, tile_row, factor(), params_.common);
      store_row<Element, 1>(o, rows, place, tile_row + 8, factor(), params_.common);
    } else {
      store_split_row<0>(o, rows, item, place, tile_row);
      store_split_row<1>(o, rows, item, place, tile_row + 8);
    }
  }

  // Waits for the keys of the next step.
  __device__ __forceinline__ SlotStep take_step() const {
    barrier_wait(shared_.full(slots_.stage), slots_.parity);
    return shared_.control->steps[slots_.stage];
  }

  // The part has no pair of this step.
  __device__ __forceinline__ void pass_step(const SlotStep& at) {
    release_slot();
    barrier_wait(shared_.full(slots_.stage), slots_.parity);
    if (at.columns < kKeys) clear_values(at.columns);
    release_slot();
  }

  __device__ __forceinline__ void do_step(float (&o)[kHeadDim / 2], RowState& rows) {
    const SlotStep at = take_step();
    if ((at.step.flags >> part_ & 1U) == 0) return pass_step(at);
    const bool has_bitmap = (at.step.flags & Step::kHasBitmap) != 0;
    std::uint32_t bits[Kernel::kBitWords];
    if (has_bitmap) load_bits(at.step, bits);
    float s[kScores];
    issue_key_product<Element, kHeadDim, kPartRows, kKeys>(
        s, descriptor_low(shared_.base + shared_.query_offset(part_), Layout::kColumnLeading),
        descriptor_low(shared_.base + shared_.slot_offset(slots_.stage), Layout::kColumnLeading));
    product_wait<0>();
    touch(s);
    release_slot();
    if constexpr (Kernel::kChanges) change_scores(s, positions_, params_.common, at.step);
    if (has_bitmap) mask_scores(s, bits);
    const float upper = softmax_row<0, true>(s, rows, factor());
    const float lower = softmax_row<1, true>(s, rows, factor());
    rescale_rows(o, upper, lower);
    std::uint32_t p[kScores / 2];
    pack_scores<Element>(s, p);
    barrier_wait(shared_.full(slots_.stage), slots_.parity);
    if (at.columns < kKeys) clear_values(at.columns);
    issue_value_product<Element>(o, p,
                                 descriptor_low(shared_.base + shared_.slot_offset(slots_.stage),
                                                Layout::row_leading(kKeys)));
    product_wait<0>();
    touch(o);
    release_slot();
  }

  // Rows of values that the sequence does not have: their weights are 0, but 0 * NaN would be NaN,
  // and a page or what was in the slot before may hold that. Both parts, which read the same rows.
  __device__ __forceinline__ void clear_values(int columns) const {
    constexpr int kRowChunks = Layout::kRowBytes / 16;
    char* values = shared_.bytes + shared_.slot_offset(slots_.stage);
    const int chunks_of_panel = (kKeys - columns) * kRowChunks;
    for (int panel = 0; panel < Kernel::kPanels; ++panel) {
      auto* first =
          reinterpret_cast<uint4*>(values + (panel * kKeys + columns) * Layout::kRowBytes);
      for (int i = thread_; i < chunks_of_panel; i += kTileThreads) {
        first[i] = make_uint4(0, 0, 0, 0);
      }
    }
    fence_engines();
    named_barrier_sync(kBothParts, kTileThreads);
  }

  // The rows of a part to shared memory by its own threads, since there are few of them in any
  // order. Rows without a query are zero.
  __device__ __forceinline__ void load_queries(const Place& place) const {
    constexpr int kChunks = kHeadDim / 8;  // of a row
    const int head_dim = params_.common.outputs.head_dim;
    const int group_size = params_.common.lists.group_size;
    char* tile = shared_.bytes + shared_.query_offset(part_);
    // Products of the item before, of other warps, may still read the rows of that.
    named_barrier_sync(kOfPart0 + part_, 128);
#pragma unroll 4
    for (int i = thread_ % 128; i < kPartRows * kChunks; i += 128) {
      const int row = i / kChunks;
      const int column = i % kChunks * 8;
      const Place::Row at = place.row(part_ * kPartRows + row, group_size);
      uint4 chunk = make_uint4(0, 0, 0, 0);
      if (at.is_there && column < head_dim) {
        chunk = load_chunk(row_offset(params_.q.strides, place, at) + column, head_dim - column);
      }
      *reinterpret_cast<uint4*>(tile + Layout::offset(row, column, kPartRows)) = chunk;
    }
    fence_engines();
    named_barrier_sync(kOfPart0 + part_, 128);
  }

  // Eight values, of which `count` are there.
  __device__ __forceinline__ uint4 load_chunk(std::int64_t offset, int count) const {
    const std::uint16_t* from = params_.q.data + offset;
    if (params_.q.is_aligned) return *reinterpret_cast<const uint4*>(from);
    std::uint32_t words[4];
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      const std::uint32_t low = 2 * w < count ? from[2 * w] : 0U;
      const std::uint32_t high = 2 * w + 1 < count ? from[2 * w + 1] : 0U;
      words[w] = low | high << 16;
    }
    return make_uint4(words[0], words[1], words[2], words[3]);
  }

  // Straight from memory, unlike in the forward kernel: this one waits for keys anyway.
  __device__ __forceinline__ void load_bits(Step step,
                                            std::uint32_t (&bits)[Kernel::kBitWords]) const {
    const std::uint32_t* words =
        params_.common.lists.bitmaps +
        std::size_t{step.flags >> Step::kBitmapShift} * fragment_words(kKeys) +
        thread_ * Kernel::kBitWords;
#pragma unroll
    for (int w = 0; w < Kernel::kBitWords; ++w) bits[w] = words[w];
  }

  // Writes o and lse of one of the two rows of a thread to where they will be added up.
  template <int kRow>
  __device__ __forceinline__ void store_split_row(const float (&o)[kHeadDim / 2],
                                                  const RowState& rows, const Item& item,
                                                  const Place& place, int tile_row) const {
    const Place::Row row = place.row(tile_row, params_.common.lists.group_size);
    const int heads = place.is_packed ? params_.common.lists.group_size : 1;
    const std::int64_t index = std::int64_t{item.split_row} + row.query * heads + row.head;
    const float sum = sum_of_row(rows.sum[kRow]);
    write_row<Element, kRow>(
        o, inverse_of(sum),
        {params_.split.o, index * kHeadDim, kHeadDim, row.is_there, /*is_f32=*/true, true});
    if (thread_ % 4 == 0 && row.is_there) {
      params_.split.lse[index] = lse_of(rows.max[kRow], sum, factor());
    }
  }

  __device__ __forceinline__ float factor() const {
    return Kernel::kChanges ? 1.0F : params_.common.scores.factor;
  }
  // By each warp: there may be no product between two waits, which keeps warps together.
  __device__ __forceinline__ void release(std::uint32_t empty) const {
    arrive_as_warp(empty, thread_);
  }
  __device__ __forceinline__ void release_slot() {
    release(shared_.empty(slots_.stage));
    slots_.advance();
  }

  static constexpr int kOfPart0 = 1;  // named barriers
  static constexpr int kBothParts = 3;

  const HopperDecodeParams& params_;
  const DecodeShared<Kernel>& shared_;
  int thread_;
  int part_;
  RingPlace<Kernel::kSlots> slots_;
  ScorePositions positions_{};
};

}  // namespace perpend::device
