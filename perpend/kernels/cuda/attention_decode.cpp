#include "perpend/kernels/cuda/attention_decode.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "perpend/kernels/cuda/attention_operands.h"
#include "perpend/kernels/cuda/decode_launch.h"
#include "perpend/kernels/cuda/device/hopper_decode_params.h"
#include "perpend/kernels/cuda/device/shared_layout.h"
#include "perpend/kernels/cuda/launchers.h"
#include "perpend/kernels/cuda/tensor_map.h"

namespace perpend {
namespace {

template <DType kType, DecodeVariant kVariant>
Launcher<DecodeLaunch> decode_launcher(std::int64_t head_dim) {
  constexpr std::array<ForDim<DecodeLaunch>, 3> kBuilt = {{
      {64, launch_hopper_decode<kType, 64, kVariant>},
      {128, launch_hopper_decode<kType, 128, kVariant>},
      {256, launch_hopper_decode<kType, 256, kVariant>},
  }};
  return at_least(kBuilt, head_dim);
}

template <DType kType>
Launcher<DecodeLaunch> decode_launcher(std::int64_t head_dim, bool changes) {
  return changes ? decode_launcher<kType, DecodeVariant::kChanges>(head_dim)
                 : decode_launcher<kType, DecodeVariant::kPlain>(head_dim);
}

template <DType kType>
Launcher<SplitSumLaunch> sum_launcher(std::int64_t head_dim) {
  constexpr std::array<ForDim<SplitSumLaunch>, 3> kBuilt = {{
      {64, launch_split_sum<kType, 64>},
      {128, launch_split_sum<kType, 128>},
      {256, launch_split_sum<kType, 256>},
  }};
  return at_least(kBuilt, head_dim);
}

// Keys of a contiguous step that one box may have: a power of two, since steps are one.
int rows_of_box(const AttentionArgs& args) {
  const int keys = device::keys_of_step(static_cast<int>(head_dim_of(args)));
  return args.page_table ? std::gcd(static_cast<int>(args.k.size(1)), keys) : keys;
}

void launch_sums(const AttentionArgs& args, const DecodeState& state,
                 const device::ForwardParams& common, const Launch& launch) {
  const DecodeLists& lists = state.lists;
  if (lists.room_for_sums == 0) return;
  const device::SplitSumParams params{common.outputs,         lists.sums,
                                      lists.counts,           state.split,
                                      lists.lists.group_size, common.q_is_ragged};
  const auto launcher = args.q.dtype == DType::kF16 ? sum_launcher<DType::kF16>(head_dim_of(args))
                                                    : sum_launcher<DType::kBF16>(head_dim_of(args));
  launcher({&params, lists.room_for_sums, launch.stream()});
}

// Of a panel of any of the decode kernels, all of which have 64 columns and more.
constexpr int kDecodeRowBytes = device::row_bytes(64);

}  // namespace

bool decode_takes(const AttentionArgs& args) {
  return can_map(box_view(args.k)) && can_map(box_view(args.v)) &&
         rows_of_box(args) % kDecodeBoxRows == 0;
}

void launch_decode(const AttentionArgs& args, const DecodeState& state, const Launch& launch) {
  const DecodeLists& lists = state.lists;
  const BoxView k = box_view(args.k);
  const BoxView v = box_view(args.v);
  device::HopperDecodeParams params{};
  params.common = forward_params(args, lists.lists);
  params.q = row_source(args.q);
  params.pages = page_table(args);
  params.counts = lists.counts;
  params.split = state.split;
  params.counter = state.counter;
  params.step_rows = rows_of_box(args);
  params.maps = {make_tensor_map(k, 1, params.step_rows, kDecodeRowBytes),
                 make_tensor_map(v, 1, params.step_rows, kDecodeRowBytes),
                 make_tensor_map(k, 1, kDecodeBoxRows, kDecodeRowBytes),
                 make_tensor_map(v, 1, kDecodeBoxRows, kDecodeRowBytes)};
  const bool changes = changes_scores(params.common.scores);
  const auto launcher = args.q.dtype == DType::kF16
                            ? decode_launcher<DType::kF16>(head_dim_of(args), changes)
                            : decode_launcher<DType::kBF16>(head_dim_of(args), changes);
  launcher({&params, std::min(num_multiprocessors(args.q.device.index), lists.lists.num_items),
            launch.stream()});
  launch_sums(args, state, params.common, launch);
}

}  // namespace perpend
