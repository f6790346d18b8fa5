#pragma once

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "perpend/kernels/cuda/device/hopper_forward.cuh"
#include "perpend/kernels/cuda/device/portable_forward.cuh"
#include "perpend/kernels/cuda/schedule_image.h"
#include "tests/kernels/cuda/emulated/emulated_operands.h"

// The forward kernels on host views, run by the emulated GPU.

namespace perpend {

inline device::ForwardParams forward_params(const AttentionArgs& args, const device::Lists& lists) {
  const std::int64_t head_dim = args.q.size(args.q.num_axes() - 1);
  const float scale = args.scale != 0 ? args.scale : 1 / std::sqrt(static_cast<float>(head_dim));
  const TensorView& slopes = args.score.alibi_slopes;
  return {.lists = lists,
          .outputs = {args.o.data, args.lse.as<float>(), row_strides(args.o), lse_strides(args.lse),
                      static_cast<std::int32_t>(head_dim), false, head_dim % 8 == 0},
          .scores = {scale * device::kLog2E, args.score.soft_cap,
                     slopes ? slopes.as<const float>() : nullptr},
          .q_is_ragged = static_cast<bool>(args.q_indptr),
          .kv_is_ragged = static_cast<bool>(args.kv_indptr)};
}

// `seed` chooses the order of threads.
template <class Kernel>
void run_hopper_forward(const AttentionArgs& args, const device::Lists& lists, std::uint64_t seed) {
  static_assert(Kernel::kSharedBytes <= static_cast<int>(device::kEmulatedShared));
  constexpr int kCtas = 2;
  const int group_size = lists.group_size;
  unsigned counter = 0;
  device::HopperForwardParams params{{}, forward_params(args, lists), &counter};
  params.maps = {map_of(args.q, 1, device::kPartRows),
                 map_of(args.q, group_size, device::kPartRows / group_size),
                 map_of(args.k, 1, Kernel::kKeys),
                 map_of(args.v, 1, Kernel::kKeys),
                 map_of(args.k, 1, lists.box_rows),
                 map_of(args.v, 1, lists.box_rows)};
  device::run_emulated(
      std::min(kCtas, lists.num_items), Kernel::kThreads, seed,
      [&] { device::hopper_forward<Kernel>(params); },
      Kernel::kWarpsRelease ? device::Products::kOfWarps : device::Products::kOfWarpgroups);
  EXPECT_EQ(counter, 0U) << "the counter is not as it was";
}

template <class Kernel>
void run_portable_forward(const AttentionArgs& args, const device::Lists& lists,
                          std::uint64_t seed) {
  const auto source = [](const TensorView& view) {
    return device::RowSource{view.as<const std::uint16_t>(), row_strides(view), false};
  };
  const device::PortableForwardParams params{
      forward_params(args, lists), source(args.q), source(args.k), source(args.v), {}};
  device::run_emulated(2 * lists.num_items, device::kPortableThreads, seed,
                       [&] { device::portable_forward<Kernel>(params); });
}

}  // namespace perpend
