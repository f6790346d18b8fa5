#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "perpend/kernels/cuda/column_image.h"
#include "perpend/kernels/cuda/column_turns.h"
#include "perpend/kernels/cuda/device/hopper_gradient.cuh"
#include "perpend/kernels/cuda/device/portable_gradient.cuh"
#include "perpend/kernels/cuda/schedule_image.h"
#include "tests/kernels/cuda/emulated/emulated_operands.h"

// The backward kernels on host views, run by the emulated GPU.

namespace perpend {

// A backward call whose kernels are emulated.
class EmulatedBackward {
 public:
  EmulatedBackward(const AttentionGradArgs& args, AttentionShape shape, ScheduleImage rows,
                   ColumnImage columns, std::uint64_t seed)
      : args_(args),
        shape_(std::move(shape)),
        seed_(seed),
        rows_(std::move(rows)),
        columns_(std::move(columns)) {
    const auto head_dim = static_cast<int>(args.forward.q.size(args.forward.q.num_axes() - 1));
    const float scale =
        args.forward.scale != 0 ? args.forward.scale : 1 / std::sqrt(static_cast<float>(head_dim));
    const TensorView& slopes = args.forward.score.alibi_slopes;
    common_ = {statistics(head_dim),
               {scale * device::kLog2E, args.forward.score.soft_cap,
                slopes ? slopes.as<const float>() : nullptr},
               scale,
               head_dim,
               static_cast<bool>(args.forward.q_indptr),
               static_cast<bool>(args.forward.kv_indptr)};
    row_pass_ = {
        {rows_.items.data(), rows_.steps.data(), rows_.sub_tiles.data(), rows_.bitmaps.data(),
         static_cast<std::int32_t>(rows_.items.size()), shape_.group_size(), rows_.box_rows},
        output(args.dq)};
    column_pass_ = {{columns_.items.data(), columns_.steps.data(), columns_.sub_tiles.data(),
                     columns_.bitmaps.data(), static_cast<std::int32_t>(columns_.items.size()),
                     shape_.group_size(), columns_.box_rows},
                    output(args.dk),
                    output(args.dv)};
  }

  template <int kHeadDim, bool kChanges>
  void run_hopper() {
    run_hopper<device::HopperGradient<device::Bf16, kHeadDim, device::RowPass, kChanges>>(
        row_pass_, queries(), keys());
    run_hopper<device::HopperGradient<device::Bf16, kHeadDim, device::ColumnPass, kChanges>>(
        column_pass_, keys(), queries());
  }
  template <int kHeadDim>
  void run_fused() {
    sum_queries<kHeadDim>([&](const device::QuerySums& dq) {
      run_hopper<device::HopperGradient<device::Bf16, kHeadDim, device::FusedPass, false>>(
          device::FusedPassParams{column_pass_, dq}, keys(), queries());
    });
  }
  // False where additions can have no order. CTAs run beside each other, as `seed` has it.
  template <int kHeadDim>
  bool run_ordered() {
    return run_ordered<kHeadDim>(seed_);
  }
  template <int kHeadDim>
  bool run_ordered(std::uint64_t seed) {
    const std::optional<ColumnTurns> turns =
        make_column_turns(columns_, shape_.group_size(), {kCtas, 0}, 1e9);
    if (!turns) return false;
    sum_queries<kHeadDim>([&](const device::QuerySums& dq) {
      const std::int64_t rows =
          device::QueryTurns::first_strip(std::ssize(shape_.sequences) + 1, dq.rows);
      std::vector<std::uint32_t> done(
          static_cast<std::size_t>(shape_.num_q_heads * device::QuerySums::kPanels * rows));
      device::OrderedPassParams pass{{column_pass_, dq}, {turns->turns.data(), done.data(), rows}};
      pass.lists.items = turns->items.data();
      pass.lists.steps = turns->steps.data();
      seed_ = seed;
      run_hopper<device::HopperGradient<device::Bf16, kHeadDim, device::OrderedPass, false>>(
          pass, keys(), queries());
    });
    return true;
  }
  // For dq, of the last fused pass.
  const std::vector<float>& sums() const { return sums_; }

  template <int kHeadDim>
  void run_portable() {
    run_portable<device::PortableGradient<device::Bf16, kHeadDim, device::RowPass>>(
        row_pass_, queries(), keys());
    run_portable<device::PortableGradient<device::Bf16, kHeadDim, device::ColumnPass>>(
        column_pass_, keys(), queries());
  }

 private:
  static constexpr int kCtas = 3;
  using Operands = std::array<TensorView, 2>;
  Operands queries() const { return {args_.forward.q, args_.d_o}; }
  Operands keys() const { return {args_.forward.k, args_.forward.v}; }

  // dq from the sums that run(sums) adds to.
  template <int kHeadDim, class Run>
  void sum_queries(Run run) {
    constexpr int kPanels = device::QuerySums::kPanels;
    std::int64_t rows = 0;
    for (const SequenceShape& s : shape_.sequences) rows += s.q_len;
    sums_.assign(static_cast<std::size_t>(shape_.num_q_heads * rows * kHeadDim), 0.0F);
    // Rows behind the last: any addition to them, also of zero, changes the sign.
    const std::size_t num_sums = sums_.size();
    sums_.resize(num_sums + std::size_t{device::kGradientQueries} * kHeadDim, -0.0F);
    const device::QuerySums dq{sums_.data(), rows};
    run(dq);
    EXPECT_TRUE(std::all_of(sums_.begin() + static_cast<std::ptrdiff_t>(num_sums), sums_.end(),
                            [](float x) { return std::signbit(x); }))
        << "something was added behind the last query";
    const device::GradientOutput& to = row_pass_.dq;
    for (int head = 0; head < shape_.num_q_heads; ++head) {
      for (std::int64_t row = 0; row < rows; ++row) {
        for (int column = 0; column < common_.head_dim; ++column) {
          constexpr int kColumns = kHeadDim / kPanels;
          const std::int64_t index = dq.row_index(head, column / kColumns, row);
          const std::int64_t place = index * kColumns + device::sum_place(index, column % kColumns);
          const float value = sums_[static_cast<std::size_t>(place)] * common_.scale;
          static_cast<std::uint16_t*>(
              to.data)[row * to.strides.token + head * to.strides.head + column] =
              static_cast<std::uint16_t>(device::Bf16::pack(value, 0));
        }
      }
    }
  }

  static device::GradientOutput output(const TensorView& view) {
    const device::RowStrides strides = row_strides(view);
    const bool is_aligned = view.size(view.num_axes() - 1) % 8 == 0 &&
                            reinterpret_cast<std::uintptr_t>(view.data) % 16 == 0 &&
                            strides.token % 8 == 0 && strides.head % 8 == 0 &&
                            strides.batch % 8 == 0;
    return {view.data, strides, false, is_aligned};
  }

  device::Statistics statistics(int head_dim) {
    std::int64_t rows = 0;
    for (const SequenceShape& s : shape_.sequences) rows += s.q_len + device::kStatisticsPad;
    negative_lse_.assign(static_cast<std::size_t>(rows * shape_.num_q_heads), -INFINITY);
    delta_.assign(negative_lse_.size(), 0.0F);
    const bool ragged = static_cast<bool>(args_.forward.q_indptr);
    std::int64_t base = 0;
    for (std::size_t s = 0; s < shape_.sequences.size(); ++s) {
      for (std::int64_t query = 0; query < shape_.sequences[s].q_len; ++query) {
        for (int head = 0; head < shape_.num_q_heads; ++head) {
          const auto batch = ragged ? 0 : static_cast<std::int64_t>(s);
          add_statistics(
              head * rows + device::statistics_row(static_cast<std::int64_t>(s), base) + query,
              batch, query + (ragged ? base : 0), head, head_dim);
        }
      }
      base += shape_.sequences[s].q_len;
    }
    return {negative_lse_.data(), delta_.data(), rows};
  }
  static std::int64_t lse_offset(const TensorView& view, std::int64_t batch, std::int64_t token,
                                 int head) {
    const device::RowStrides strides = lse_strides(view);
    return batch * strides.batch + head * strides.head + token * strides.token;
  }
  static float bf16_at(const TensorView& view, std::int64_t offset) {
    return device::Bf16::value(view.as<const std::uint16_t>()[offset]);
  }
  void add_statistics(std::int64_t to, std::int64_t batch, std::int64_t token, int head,
                      int head_dim) {
    const auto at = static_cast<std::size_t>(to);
    const float lse =
        args_.forward.lse.as<const float>()[lse_offset(args_.forward.lse, batch, token, head)];
    if (lse == -INFINITY) return;
    negative_lse_[at] = -lse * device::kLog2E;
    const auto offset = [&](const TensorView& view) {
      const device::RowStrides strides = row_strides(view);
      return batch * strides.batch + token * strides.token + head * strides.head;
    };
    for (int d = 0; d < head_dim; ++d) {
      delta_[at] += bf16_at(args_.forward.o, offset(args_.forward.o) + d) *
                    bf16_at(args_.d_o, offset(args_.d_o) + d);
    }
    if (args_.d_lse) {
      delta_[at] -= args_.d_lse.as<const float>()[lse_offset(args_.d_lse, batch, token, head)];
    }
  }

  template <class Kernel, class Pass>
  void run_hopper(const Pass& pass, const Operands& outer, const Operands& inner) {
    static_assert(Kernel::kSharedBytes <= static_cast<int>(device::kEmulatedShared));
    unsigned counter = 0;
    typename Kernel::Params params{{}, common_, pass, &counter};
    for (std::size_t i = 0; i < 2; ++i) {
      const int group = pass.lists.group_size;
      params.maps.outer_separate[i] = map_of(outer[i], 1, device::kPartRows);
      params.maps.outer_packed[i] = map_of(outer[i], group, device::kPartRows / group);
      params.maps.inner_step[i] = map_of(inner[i], 1, Kernel::kInnerRows);
      params.maps.inner_box[i] = map_of(inner[i], 1, pass.lists.box_rows);
    }
    const int num_ctas = std::min(kCtas, pass.lists.num_items);
    const auto kernel = [&] { device::hopper_gradient<Kernel>(params); };
    if constexpr (Kernel::kOrdered) {
      device::run_emulated_together(num_ctas, Kernel::kThreads, seed_, kernel);
    } else {
      device::run_emulated(num_ctas, Kernel::kThreads, seed_, kernel);
    }
    EXPECT_EQ(counter, 0U) << "the counter is not as it was";
  }

  template <class Kernel, class Pass>
  void run_portable(const Pass& pass, const Operands& outer, const Operands& inner) {
    const auto source = [](const TensorView& view) {
      return device::RowSource{view.as<const std::uint16_t>(), row_strides(view), false};
    };
    const typename Kernel::Params params{
        common_, pass, {source(outer[0]), source(outer[1])}, {source(inner[0]), source(inner[1])}};
    device::run_emulated(2 * Kernel::kGradients * pass.lists.num_items, device::kPortableThreads,
                         seed_, [&] { device::portable_gradient<Kernel>(params); });
  }

  const AttentionGradArgs& args_;
  AttentionShape shape_;
  std::uint64_t seed_;  // of the order of threads
  ScheduleImage rows_;
  ColumnImage columns_;
  std::vector<float> negative_lse_;
  std::vector<float> delta_;
  std::vector<float> sums_;
  device::GradientParams common_;
  device::RowPassParams row_pass_;
  device::ColumnPassParams column_pass_;
};

}  // namespace perpend
