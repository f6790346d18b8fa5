#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/portable_params.h"
#include "perpend/kernels/cuda/device/portable_tiles.cuh"
#include "perpend/kernels/cuda/device/row_output.cuh"
#include "perpend/kernels/cuda/device/score_change.cuh"
#include "perpend/kernels/cuda/device/softmax.cuh"

// The forward kernel for every GPU from compute capability 8.0 on, any strides and paged keys: a
// CTA of four warps takes one part of an item, the loop is that of FlashAttention-2,
// arXiv:2307.08691.

namespace perpend::device {

template <class Element_, int kHeadDim_>
struct PortableForward {
  using Element = Element_;
  static constexpr int kHeadDim = kHeadDim_;
  static constexpr int kKeys = keys_of_step(kHeadDim);
  static constexpr int kChunk = kKeys / 2;    // keys in shared memory at a time
  static constexpr int kScores = kChunk / 2;  // registers of a thread
  static constexpr int kQueryValues = kPartRows * pitch(kHeadDim);
  static constexpr int kChunkValues = kChunk * pitch(kHeadDim);
  static constexpr int kSharedBytes = (kQueryValues + 2 * kChunkValues) * 2;
};

template <class Kernel>
class PortablePart {
 public:
  using Element = typename Kernel::Element;
  static constexpr int kHeadDim = Kernel::kHeadDim;
  static constexpr int kChunk = Kernel::kChunk;
  static constexpr int kScores = Kernel::kScores;

  __device__ __forceinline__ PortablePart(const PortableForwardParams& params, const Item& item,
                                          int part, std::uint16_t* shared)
      : params_(params),
        item_(item),
        place_(place_of(item, params.common.q_is_ragged)),
        part_(part),
        q_(shared),
        k_(shared + Kernel::kQueryValues),
        v_(shared + Kernel::kQueryValues + Kernel::kChunkValues) {}

  __device__ __forceinline__ void run() {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int tile_row = part_ * kPartRows + warp * 16 + static_cast<int>(threadIdx.x) % 32 / 4;
    positions_ = score_positions(place_, tile_row, params_.common);
    float o[kHeadDim / 2];
#pragma unroll
    for (int i = 0; i < kHeadDim / 2; ++i) o[i] = 0.0F;
    RowState rows;
    load_queries();
    Cursor cursor = first();
    if (!is_end(cursor)) load_chunk(k_, params_.k, cursor);
    copies_commit();
    while (!is_end(cursor)) {
      const Cursor next = after(cursor);
      step(cursor, next, o, rows);
      cursor = next;
    }
    copies_wait<0>();
    store_row<Element, 0>(o, rows, place_, tile_row, 1.0F, params_.common);
    store_row<Element, 1>(o, rows, place_, tile_row + 8, 1.0F, params_.common);
  }

 private:
  // A chunk of a step that the part has.
  struct Cursor {
    int index;
    int chunk;
    Step step;
  };

  __device__ __forceinline__ int num_steps() const { return item_.num_partial + item_.num_full; }
  __device__ __forceinline__ bool is_end(const Cursor& cursor) const {
    return cursor.index >= num_steps();
  }
  __device__ __forceinline__ Cursor first() const { return at_live({0, 0, {}}); }
  __device__ __forceinline__ Cursor after(const Cursor& cursor) const {
    if (cursor.chunk == 0) return {cursor.index, 1, cursor.step};
    return at_live({cursor.index + 1, 0, {}});
  }
  __device__ __forceinline__ Cursor at_live(Cursor cursor) const {
    for (; !is_end(cursor); ++cursor.index) {
      cursor.step = params_.common.lists.steps[item_.list_begin + cursor.index];
      if ((cursor.step.flags >> part_ & 1U) != 0) break;
    }
    return cursor;
  }

  __device__ __forceinline__ void step(const Cursor& cursor, const Cursor& next,
                                       float (&o)[kHeadDim / 2], RowState& rows) {
    copies_wait<0>();
    __syncthreads();
    load_chunk(v_, params_.v, cursor);
    copies_commit();
    float s[kScores];
    multiply_rows<Element, kHeadDim>(s, q_, k_);
    __syncthreads();
    if (!is_end(next)) load_chunk(k_, params_.k, next);
    copies_commit();
    change_scores(s, positions_, params_.common, cursor.step, cursor.chunk * kChunk);
    mask(s, cursor);
    const float upper = softmax_row<0, true>(s, rows, 1.0F);
    const float lower = softmax_row<1, true>(s, rows, 1.0F);
    rescale_rows(o, upper, lower);
    std::uint32_t p[kScores / 2];
    pack_scores<Element>(s, p);
    copies_wait<1>();
    __syncthreads();
    add_product<Element>(o, p, v_);
  }

  __device__ __forceinline__ void mask(float (&s)[kScores], const Cursor& cursor) const {
    if ((cursor.step.flags & Step::kHasBitmap) == 0) return;
    constexpr int kWords = Kernel::kKeys / 64;  // of a thread
    const int thread = part_ * kPortableThreads + static_cast<int>(threadIdx.x);
    const std::uint32_t* words =
        params_.common.lists.bitmaps +
        std::size_t{cursor.step.flags >> Step::kBitmapShift} * fragment_words(Kernel::kKeys) +
        thread * kWords;
    const int first = cursor.chunk * kScores;
    const std::uint32_t bits[1] = {words[first / 32] >> first % 32};
    mask_scores(s, bits);
  }

  __device__ __forceinline__ void load_queries() const {
    const int head_dim = params_.common.outputs.head_dim;
    load_rows<kHeadDim>(q_, kPartRows, params_.q, head_dim, [&](int row) -> std::int64_t {
      const Place::Row at = place_.row(part_ * kPartRows + row, params_.common.lists.group_size);
      if (!at.is_there) return -1;
      const RowStrides& strides = params_.q.strides;
      return place_.batch * strides.batch + (place_.q_token + at.query) * strides.token +
             (place_.q_head + at.head) * strides.head;
    });
  }

  __device__ __forceinline__ void load_chunk(std::uint16_t* to, const RowSource& from,
                                             const Cursor& cursor) const {
    const Step step = cursor.step;
    int columns = Kernel::kKeys;
    if ((step.flags & Step::kIsGathered) != 0) {
      columns = (static_cast<int>(step.flags >> Step::kBoxesShift & Step::kBoxesMask) + 1) *
                params_.common.lists.box_rows;
    }
    const int head_dim = params_.common.outputs.head_dim;
    load_rows<kHeadDim>(to, kChunk, from, head_dim, [&](int row) -> std::int64_t {
      const int column = cursor.chunk * kChunk + row;
      const std::int32_t key = inner_position(params_.common.lists, step, column);
      if (column >= columns || key >= item_.kv_len) return -1;
      return key_offset(from.strides, key);
    });
  }

  __device__ __forceinline__ std::int64_t key_offset(const RowStrides& strides,
                                                     std::int32_t key) const {
    const std::int64_t head = (item_.kv_head_and_packing >> 1) * strides.head;
    const PageTable& table = params_.pages;
    if (table.pages == nullptr) {
      const bool is_ragged = params_.common.kv_is_ragged;
      const std::int64_t batch = is_ragged ? 0 : item_.sequence;
      const std::int64_t token = key + (is_ragged ? item_.kv_base : 0);
      return batch * strides.batch + token * strides.token + head;
    }
    const std::int64_t page = table.pages[item_.sequence * table.stride + key / table.page_size];
    // A page that was released: no row sees its keys.
    if (page < 0) return -1;
    return page * strides.batch + key % table.page_size * strides.token + head;
  }

  const PortableForwardParams& params_;
  const Item& item_;
  Place place_;
  int part_;
  std::uint16_t* q_;
  std::uint16_t* k_;
  std::uint16_t* v_;
  ScorePositions positions_{};
};

template <class Kernel>
__global__ void __launch_bounds__(kPortableThreads)
    portable_forward(const __grid_constant__ PortableForwardParams params) {
  // NOLINTNEXTLINE(readability-redundant-declaration): an emulated GPU has declared it
  extern __shared__ __align__(16) std::uint16_t shared_values[];
  const Item item = params.common.lists.items[blockIdx.x / 2];
  const auto part = static_cast<int>(blockIdx.x % 2);
  const int part_queries =
      (item.kv_head_and_packing & 1) != 0 ? kPartRows / params.common.lists.group_size : kPartRows;
  if (item.q_size <= part * part_queries) return;
  PortablePart<Kernel>(params, item, part, shared_values).run();
}

}  // namespace perpend::device
