#include "perpend/kernels/cuda/attention.h"

#include <array>

#include "perpend/kernels/attention_prepare.h"
#include "perpend/kernels/cuda/attention_decode.h"
#include "perpend/kernels/cuda/attention_operands.h"
#include "perpend/kernels/cuda/attention_rows.h"
#include "perpend/kernels/cuda/device/hopper_params.h"
#include "perpend/kernels/cuda/device/portable_params.h"
#include "perpend/kernels/cuda/device_schedule.h"
#include "perpend/kernels/cuda/forward_launch.h"
#include "perpend/kernels/cuda/launch.h"
#include "perpend/kernels/cuda/launchers.h"
#include "perpend/kernels/cuda/stream_memory.h"
#include "perpend/kernels/cuda/tensor_map.h"
#include "perpend/schedule/gpu_tiling.h"

namespace perpend {
namespace {

constexpr std::int64_t kMaxHeadDim = 256;

template <DType kType, ForwardVariant kVariant>
Launcher<HopperLaunch> hopper_launcher(std::int64_t head_dim) {
  constexpr ForwardVariant kNarrow =
      kVariant == ForwardVariant::kSkips ? ForwardVariant::kPlain : kVariant;
  constexpr std::array<ForDim<HopperLaunch>, 6> kBuilt = {{
      {32, launch_hopper_forward<kType, 32, kNarrow>},
      {64, launch_hopper_forward<kType, 64, kNarrow>},
      {96, launch_hopper_forward<kType, 96, kVariant>},
      {128, launch_hopper_forward<kType, 128, kVariant>},
      {192, launch_hopper_forward<kType, 192, kVariant>},
      {256, launch_hopper_forward<kType, 256, kVariant>},
  }};
  return at_least(kBuilt, head_dim);
}

template <DType kType>
Launcher<HopperLaunch> hopper_launcher(std::int64_t head_dim, ForwardVariant variant) {
  switch (variant) {
    case ForwardVariant::kSkips:
      return hopper_launcher<kType, ForwardVariant::kSkips>(head_dim);
    case ForwardVariant::kChanges:
      return hopper_launcher<kType, ForwardVariant::kChanges>(head_dim);
    default:
      return hopper_launcher<kType, ForwardVariant::kPlain>(head_dim);
  }
}

template <DType kType>
Launcher<PortableLaunch> portable_launcher(std::int64_t head_dim) {
  constexpr std::array<ForDim<PortableLaunch>, 3> kBuilt = {{
      {64, launch_portable_forward<kType, 64>},
      {128, launch_portable_forward<kType, 128>},
      {256, launch_portable_forward<kType, 256>},
  }};
  return at_least(kBuilt, head_dim);
}

// What the Hopper kernel does not take goes to the portable one: paged keys, rows that the copy
// engine can not load or that o does not have in whole chunks. The schedule has no say in it, or a
// sequence's bits would depend on who shares the batch.
bool hopper_takes(const AttentionArgs& args, const device::ForwardParams& params) {
  return !args.page_table && can_map(box_view(args.q)) && can_map(box_view(args.k)) &&
         can_map(box_view(args.v)) && (params.outputs.o_is_f32 || params.outputs.o_is_aligned);
}

// Narrow kernels test for every step whether a part has it, which costs them nothing.
bool is_narrow(std::int64_t head_dim) { return head_dim <= 64; }

// Wide kernels that change scores do not test it.
bool may_skip_parts(const AttentionArgs& args) {
  return is_narrow(head_dim_of(args)) || !changes_scores(scores_of(args));
}

ForwardVariant variant_of(const AttentionArgs& args, const DeviceRows& rows) {
  if (changes_scores(scores_of(args))) return ForwardVariant::kChanges;
  const bool skips = rows.form.skips_parts && !is_narrow(head_dim_of(args));
  return skips ? ForwardVariant::kSkips : ForwardVariant::kPlain;
}

void run_hopper(const AttentionArgs& args, const device::ForwardParams& common,
                const DeviceRows& rows, const Launch& launch) {
  const int keys = device::keys_of_step(static_cast<int>(head_dim_of(args)));
  const int group_size = common.lists.group_size;
  const BoxView q = box_view(args.q);
  const BoxView k = box_view(args.k);
  const BoxView v = box_view(args.v);
  device::HopperForwardParams params{};
  params.common = common;
  params.counter = rows.counters->for_stream(launch.stream());
  if (rows.form.has_separate) params.maps.q_separate = make_tensor_map(q, 1, device::kPartRows);
  if (rows.form.has_packed) {
    params.maps.q_packed = make_tensor_map(q, group_size, device::kPartRows / group_size);
  }
  params.maps.k_step = make_tensor_map(k, 1, keys);
  params.maps.v_step = make_tensor_map(v, 1, keys);
  params.maps.k_box = make_tensor_map(k, 1, common.lists.box_rows);
  params.maps.v_box = make_tensor_map(v, 1, common.lists.box_rows);
  const ForwardVariant variant = variant_of(args, rows);
  const auto launcher = args.q.dtype == DType::kF16
                            ? hopper_launcher<DType::kF16>(head_dim_of(args), variant)
                            : hopper_launcher<DType::kBF16>(head_dim_of(args), variant);
  launcher(
      {&params, common.lists.num_items, num_multiprocessors(args.q.device.index), launch.stream()});
}

void run_portable(const AttentionArgs& args, const device::ForwardParams& common,
                  const Launch& launch) {
  const device::PortableForwardParams params{common, row_source(args.q), row_source(args.k),
                                             row_source(args.v), page_table(args)};
  const auto launcher = args.q.dtype == DType::kF16
                            ? portable_launcher<DType::kF16>(head_dim_of(args))
                            : portable_launcher<DType::kBF16>(head_dim_of(args));
  launcher({&params, common.lists.num_items, launch.stream()});
}

// Sequences that a kernel has taken.
enum class Taken { kNone, kSome, kAll };

// Of sequences whose keys are not paged the decode kernel takes those with few rows.
Taken decode_share(const Schedule& schedule) {
  bool has_few = false;
  bool has_many = false;
  for (std::size_t s = 0; s < schedule.shape.sequences.size(); ++s) {
    if (schedule.shape.sequences[s].q_len == 0) continue;
    (has_few_rows(schedule, static_cast<std::int32_t>(s)) ? has_few : has_many) = true;
  }
  if (!has_few) return Taken::kNone;
  return has_many ? Taken::kSome : Taken::kAll;
}

// Of sequences whose keys are paged it takes all.
Taken decode_share(const AttentionArgs& args, const Schedule& schedule) {
  if (!decode_takes(args)) return Taken::kNone;
  // A plan for keys that are not paged may have boxes that straddle two pages.
  if (args.page_table) return schedule.tiling.any_start ? Taken::kNone : Taken::kAll;
  return decode_share(schedule);
}

Taken run_decode(const AttentionArgs& args, const Schedule& schedule, const Launch& launch) {
  const Taken share = decode_share(args, schedule);
  if (share == Taken::kNone) return share;
  const ReadByLaunches on_device(device_decode(schedule, static_cast<int>(head_dim_of(args)),
                                               args.q.device.index, share == Taken::kAll),
                                 launch.stream());
  const std::int64_t rows = on_device->split_rows();
  const StreamMemory workspace(workspace_bytes(rows, head_dim_of(args)), launch);
  launch_decode(args,
                {on_device->lists(), on_device->counter_for(launch.stream()),
                 split_rows_at(workspace.data(), rows, head_dim_of(args))},
                launch);
  return share;
}

void run_rest(const AttentionArgs& args, const Schedule& schedule, Taken taken,
              const Launch& launch) {
  const auto head_dim = static_cast<int>(head_dim_of(args));
  const ReadByLaunches on_device(device_schedule(schedule, head_dim, args.q.device.index,
                                                 {.only_many_rows = taken == Taken::kSome,
                                                  .may_skip_parts = may_skip_parts(args)}),
                                 launch.stream());
  launch_rows(args, on_device->rows(), launch);
}

}  // namespace

bool cuda_attention_supports(const AttentionSpec& spec) {
  return (spec.q_dtype == DType::kF16 || spec.q_dtype == DType::kBF16) &&
         spec.kv_dtype == spec.q_dtype && spec.head_dim >= 1 && spec.head_dim <= kMaxHeadDim;
}

Tiling cuda_attention_tiling(const AttentionSpec& spec, Sweep sweep) {
  Tiling tiling = gpu_tiling(static_cast<int>(spec.head_dim), sweep);
  // A page is copied box by box, so no box may straddle two.
  if (spec.paged) tiling.any_start = false;
  return tiling;
}

void cuda_attention_forward(const AttentionArgs& args, const Schedule& schedule, Stream stream) {
  check_slopes(args.score.alibi_slopes);
  check_image_form(schedule, static_cast<int>(head_dim_of(args)), Sweep::kRows);
  if (schedule.items.empty()) return;
  const Launch launch("attention", args.q.device, stream);
  const bool is_hopper = check_is_hopper(args.q.device.index);
  const Taken taken = is_hopper ? run_decode(args, schedule, launch) : Taken::kNone;
  if (taken != Taken::kAll) run_rest(args, schedule, taken, launch);
  launch.check_launched();
}

void prepare_attention(const AttentionSpec& spec, const Schedule& rows, const Schedule& columns,
                       Device device) {
  if (device.type == DeviceType::kCpu) return;
  const auto head_dim = static_cast<int>(spec.head_dim);
  check_image_form(rows, head_dim, Sweep::kRows);
  check_image_form(columns, head_dim, Sweep::kColumns);
  const Launch on_device("attention plan", device, {});
  const Taken share = check_is_hopper(device.index) ? decode_share(rows) : Taken::kNone;
  if (share != Taken::kNone) device_decode(rows, head_dim, device.index, share == Taken::kAll);
  if (share == Taken::kSome)
    device_schedule(rows, head_dim, device.index, {.only_many_rows = true});
  device_schedule(rows, head_dim, device.index);
  device_columns(columns, head_dim, device.index);
}

void launch_rows(const AttentionArgs& args, const DeviceRows& rows, const Launch& launch) {
  const bool is_hopper = check_is_hopper(args.q.device.index);
  const device::ForwardParams params = forward_params(args, rows.lists);
  if (is_hopper && hopper_takes(args, params)) {
    run_hopper(args, params, rows, launch);
  } else {
    run_portable(args, params, launch);
  }
}

}  // namespace perpend
