#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/gradient_passes.cuh"
#include "perpend/kernels/cuda/device/portable_gradient_params.h"
#include "perpend/kernels/cuda/device/portable_tiles.cuh"

// The backward kernel for every GPU from compute capability 8.0 on, any strides and every head_dim:
// a CTA of four warps computes one gradient of one part of an item.

namespace perpend::device {

constexpr int kGradientChunk = 32;  // inner rows in shared memory at a time

template <class Element_, int kHeadDim_, class Pass_>
struct PortableGradient {
  using Element = Element_;
  using Pass = Pass_;
  using Params = PortableGradientParams<typename Pass::Params>;
  static constexpr int kHeadDim = kHeadDim_;
  static constexpr int kInnerRows = Pass::kColumns ? kGradientQueries : keys_of_step(kHeadDim);
  static constexpr int kGradients = Pass::kColumns ? 2 : 1;  // dk and dv, or dq
  static constexpr int kScores = kGradientChunk / 2;         // registers of a thread
  static constexpr int kOuterValues = kPartRows * pitch(kHeadDim);
  static constexpr int kChunkValues = kGradientChunk * pitch(kHeadDim);
  static constexpr int kSharedBytes = 2 * (kOuterValues + kChunkValues) * 2;
};

template <class Kernel>
class GradientPart {
 public:
  using Element = typename Kernel::Element;
  using Pass = typename Kernel::Pass;
  using Item = typename Pass::Item;
  using Entry = typename Pass::Entry;
  using Params = typename Kernel::Params;
  static constexpr int kHeadDim = Kernel::kHeadDim;
  static constexpr int kScores = Kernel::kScores;

  // is_partner: the gradient of the second outer operand, dv, is wanted.
  __device__ __forceinline__ GradientPart(const Params& params, const Item& item, int part,
                                          bool is_partner, std::uint16_t* shared)
      : params_(params),
        item_(item),
        part_(part),
        is_partner_(is_partner),
        outer_{shared, shared + Kernel::kOuterValues},
        inner_{shared + 2 * Kernel::kOuterValues,
               shared + 2 * Kernel::kOuterValues + Kernel::kChunkValues},
        rows_(outer_rows(item, tile_row(), params.pass, params.common)) {}

  __device__ __forceinline__ void run() {
    float sums[kHeadDim / 2];
#pragma unroll
    for (int i = 0; i < kHeadDim / 2; ++i) sums[i] = 0.0F;
    load_outer(0);
    load_outer(1);
    for (int i = 0; i < item_.num_partial + item_.num_full; ++i) {
      const Entry entry = params_.pass.lists.steps[item_.list_begin + i];
      if ((Pass::step_of(entry).flags >> part_ & 1U) == 0) continue;
      for (int first = 0; first < Kernel::kInnerRows; first += kGradientChunk) {
        add_chunk(entry, first, sums);
      }
    }
    copies_commit();
    copies_wait<0>();
    store(sums);
  }

 private:
  __device__ __forceinline__ int tile_row() const {
    const auto thread = static_cast<int>(threadIdx.x);
    return part_ * kPartRows + thread / 32 * 16 + thread % 32 / 4;
  }

  __device__ __forceinline__ void add_chunk(const Entry& entry, int first,
                                            float (&sums)[kHeadDim / 2]) const {
    __syncthreads();
    load_inner(0, entry, first);
    load_inner(1, entry, first);
    copies_commit();
    copies_wait<0>();
    __syncthreads();
    float s[kScores];
    float t[kScores];
    multiply_rows<Element, kHeadDim>(s, outer_[0], inner_[0]);
    multiply_rows<Element, kHeadDim>(t, outer_[1], inner_[1]);
    const auto& lists = params_.pass.lists;
    weigh_changed(
        s, t, params_.common.scores,
        positions_at(rows_, item_, entry, lists.group_size, params_.common.scores),
        [&](int group) {
          return statistics(params_.common.statistics.negative_lse, rows_.negative_lse, entry,
                            first, group);
        },
        [&](int group) {
          return statistics(params_.common.statistics.delta, rows_.delta, entry, first, group);
        },
        [&](int column) { return column_position(item_, entry, first + column, lists); });
    std::uint32_t weights[kScores / 2];
    if (is_partner_) {
      mask(s, Pass::step_of(entry), first);
      pack_scores<Element>(s, weights);
    } else {
      mask(t, Pass::step_of(entry), first);
      pack_scores<Element>(t, weights);
    }
    add_product<Element>(sums, weights, inner_[is_partner_ ? 1 : 0]);
  }

  __device__ __forceinline__ FourStatistics statistics(const float* known,
                                                       const float (&of_rows)[2],
                                                       const Entry& entry, int first,
                                                       int group) const {
    if constexpr (Pass::kColumns) {
      const int column = first + 8 * group + static_cast<int>(threadIdx.x) % 4 * 2;
      const float* from = known +
                          (item_.kv_head * params_.pass.lists.group_size + entry.head) *
                              params_.common.statistics.rows +
                          statistics_row(item_.sequence, item_.q_base);
      const float even = from[inner_position(params_.pass.lists, entry.step, column)];
      const float odd = from[inner_position(params_.pass.lists, entry.step, column + 1)];
      return {{even, odd, even, odd}};
    } else {
      return {{of_rows[0], of_rows[0], of_rows[1], of_rows[1]}};
    }
  }

  __device__ __forceinline__ void mask(float (&weights)[kScores], Step step, int first) const {
    if ((step.flags & Step::kHasBitmap) == 0) return;
    constexpr int kWords = Kernel::kInnerRows / 64;  // of a thread
    const int thread = part_ * kPortableThreads + static_cast<int>(threadIdx.x);
    const std::uint32_t* words =
        params_.pass.lists.bitmaps +
        std::size_t{step.flags >> Step::kBitmapShift} * fragment_words(Kernel::kInnerRows) +
        thread * kWords;
    const int bit = first / 2;
    const std::uint32_t bits[1] = {words[bit / 32] >> bit % 32};
    mask_weights<0, kScores / 4>(weights, bits);
  }

  __device__ __forceinline__ void load_outer(int operand) const {
    const RowSource& from = params_.outer[operand];
    load_rows<kHeadDim>(
        outer_[operand], kPartRows, from, params_.common.head_dim, [&](int row) -> std::int64_t {
          const RowTarget at = outer_target({nullptr, from.strides, false, false}, item_,
                                            part_ * kPartRows + row, params_.pass, params_.common);
          return at.is_there ? at.first : -1;
        });
  }

  __device__ __forceinline__ void load_inner(int operand, const Entry& entry, int first) const {
    const Step step = Pass::step_of(entry);
    const auto& lists = params_.pass.lists;
    const RowSource& from = params_.inner[operand];
    const RowsOrigin origin = Pass::inner_origin(item_, entry, lists.group_size, params_.common);
    int columns = Kernel::kInnerRows;
    if ((step.flags & Step::kIsGathered) != 0) {
      columns = (static_cast<int>(step.flags >> Step::kBoxesShift & Step::kBoxesMask) + 1) *
                lists.box_rows;
    }
    load_rows<kHeadDim>(inner_[operand], kGradientChunk, from, params_.common.head_dim,
                        [&](int row) -> std::int64_t {
                          const std::int32_t at = inner_position(lists, step, first + row);
                          if (first + row >= columns || at >= Pass::inner_length(item_)) return -1;
                          return origin.batch * from.strides.batch +
                                 (origin.token + at) * from.strides.token +
                                 origin.head * from.strides.head;
                        });
  }

  __device__ __forceinline__ void store(const float (&sums)[kHeadDim / 2]) const {
    const auto store_to = [&](const GradientOutput& output, float factor) {
      const auto target = [&](int row) {
        return outer_target(output, item_, row, params_.pass, params_.common);
      };
      write_row<Element, 0>(sums, factor, target(tile_row()));
      write_row<Element, 1>(sums, factor, target(tile_row() + 8));
    };
    if constexpr (Pass::kColumns) {
      if (is_partner_) {
        store_to(params_.pass.dv, 1.0F);
      } else {
        store_to(params_.pass.dk, params_.common.scale);
      }
    } else {
      store_to(params_.pass.dq, params_.common.scale);
    }
  }

  const Params& params_;
  const Item& item_;
  int part_;
  bool is_partner_;
  std::uint16_t* outer_[2];
  std::uint16_t* inner_[2];
  OuterRows rows_;
};

template <class Kernel>
__global__ void __launch_bounds__(kPortableThreads)
    portable_gradient(const __grid_constant__ typename Kernel::Params params) {
  // NOLINTNEXTLINE(readability-redundant-declaration): an emulated GPU has declared it
  extern __shared__ __align__(16) std::uint16_t shared_values[];
  constexpr unsigned kPartsOfItem = 2 * Kernel::kGradients;
  const auto item = params.pass.lists.items[blockIdx.x / kPartsOfItem];
  const auto part = static_cast<int>(blockIdx.x % 2);
  const bool is_partner = blockIdx.x % kPartsOfItem >= 2;
  GradientPart<Kernel>(params, item, part, is_partner, shared_values).run();
}

}  // namespace perpend::device
