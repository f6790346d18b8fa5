#include "perpend/kernels/cuda/attention.h"

#include <array>
#include <cmath>

#include "perpend/core/demand.h"
#include "perpend/kernels/cuda/cuda_check.h"
#include "perpend/kernels/cuda/device/hopper_params.h"
#include "perpend/kernels/cuda/device/portable_params.h"
#include "perpend/kernels/cuda/device_schedule.h"
#include "perpend/kernels/cuda/forward_launch.h"
#include "perpend/kernels/cuda/launch.h"
#include "perpend/kernels/cuda/tensor_map.h"
#include "perpend/schedule/gpu_tiling.h"

namespace perpend {
namespace {

constexpr std::int64_t kMaxHeadDim = 256;
constexpr double kLog2E = 1.4426950408889634;

std::int64_t head_dim_of(const AttentionArgs& args) { return args.q.size(args.q.num_axes() - 1); }

void check_devices(const AttentionArgs& args) {
  const auto demand_here = [&](const TensorView& view, std::string_view name) {
    demand(!view || view.device == args.q.device, "attention: ", name, " is on ", view.device,
           ", q on ", args.q.device);
  };
  demand_here(args.k, "k");
  demand_here(args.v, "v");
  demand_here(args.o, "o");
  demand_here(args.lse, "lse");
  demand_here(args.page_table, "page_table");
  demand_here(args.score.alibi_slopes, "alibi_slopes");
}

// 100 * major + 10 * minor, "900" for Hopper.
int compute_capability(int device) {
  int major = 0;
  int minor = 0;
  cuda_check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
             "attention");
  cuda_check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device),
             "attention");
  return 100 * major + 10 * minor;
}

device::RowStrides row_strides(const TensorView& view) {
  if (view.num_axes() == 3) return {0, view.stride(0), view.stride(1)};
  return {view.stride(0), view.stride(1), view.stride(2)};
}

// lse: [batch, heads, tokens] or [heads, tokens].
device::RowStrides lse_strides(const TensorView& view) {
  if (!view) return {};
  if (view.num_axes() == 2) return {0, view.stride(1), view.stride(0)};
  return {view.stride(0), view.stride(2), view.stride(1)};
}

// Whether all rows are whole chunks of 16 bytes at multiples of 16 bytes, for 16-bit values.
bool has_aligned_rows(const TensorView& view) {
  constexpr std::int64_t kChunk = 8;
  bool aligned = reinterpret_cast<std::uintptr_t>(view.data) % 16 == 0 &&
                 view.size(view.num_axes() - 1) % kChunk == 0;
  for (int axis = 0; axis + 1 < view.num_axes(); ++axis) {
    aligned = aligned && (view.size(axis) == 1 || view.stride(axis) % kChunk == 0);
  }
  return aligned;
}

device::ForwardParams forward_params(const AttentionArgs& args, const DeviceSchedule& schedule) {
  const std::int64_t head_dim = head_dim_of(args);
  const double scale = args.scale != 0 ? static_cast<double>(args.scale)
                                       : 1 / std::sqrt(static_cast<double>(head_dim));
  const TensorView& slopes = args.score.alibi_slopes;
  return {.lists = schedule.lists(),
          .outputs = {args.o.data, args.lse ? args.lse.as<float>() : nullptr, row_strides(args.o),
                      lse_strides(args.lse), static_cast<std::int32_t>(head_dim),
                      args.o.dtype == DType::kF32, has_aligned_rows(args.o)},
          .scores = {static_cast<float>(scale * kLog2E), args.score.soft_cap,
                     slopes ? slopes.as<const float>() : nullptr},
          .q_is_ragged = static_cast<bool>(args.q_indptr),
          .kv_is_ragged = static_cast<bool>(args.kv_indptr)};
}

bool changes_scores(const device::Scores& scores) {
  // A negative factor would turn the largest score into the least.
  return scores.soft_cap != 0 || scores.alibi_slopes != nullptr || scores.factor < 0;
}

// The call of the instantiation for a type and a head_dim, which is padded to the next that is
// built.
template <class Launch>
using Launcher = void (*)(const Launch& launch);

template <class Launch>
struct ForDim {
  std::int64_t head_dim;
  Launcher<Launch> launcher;
};

template <class Launch, std::size_t kCount>
Launcher<Launch> at_least(const std::array<ForDim<Launch>, kCount>& built, std::int64_t head_dim) {
  for (const ForDim<Launch>& one : built) {
    if (head_dim <= one.head_dim) return one.launcher;
  }
  bug("attention: a head_dim that supports() refuses");
}

template <DType kType, ForwardVariant kVariant>
Launcher<HopperLaunch> hopper_launcher(std::int64_t head_dim) {
  constexpr ForwardVariant kNarrow =
      kVariant == ForwardVariant::kSkips ? ForwardVariant::kPlain : kVariant;
  constexpr std::array<ForDim<HopperLaunch>, 5> kBuilt = {{
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

// Narrow kernels test it for every step anyway.
bool skips_parts(const DeviceSchedule& schedule, std::int64_t head_dim) {
  return schedule.skips_parts() && head_dim > 64;
}

// What the Hopper kernel does not take goes to the portable one: paged keys, rows that the copy
// engine can not load or that o does not have in whole chunks, changed scores of plans in which
// parts skip steps.
bool hopper_takes(const AttentionArgs& args, const device::ForwardParams& params,
                  const DeviceSchedule& schedule) {
  return !args.page_table && can_map(box_view(args.q)) && can_map(box_view(args.k)) &&
         can_map(box_view(args.v)) && (params.outputs.o_is_f32 || params.outputs.o_is_aligned) &&
         !(changes_scores(params.scores) && skips_parts(schedule, params.outputs.head_dim));
}

void run_hopper(const AttentionArgs& args, const device::ForwardParams& common,
                const DeviceSchedule& schedule, const Launch& launch) {
  const int keys = device::keys_of_step(static_cast<int>(head_dim_of(args)));
  const int group_size = common.lists.group_size;
  const BoxView q = box_view(args.q);
  const BoxView k = box_view(args.k);
  const BoxView v = box_view(args.v);
  device::HopperForwardParams params{};
  params.common = common;
  params.counter = schedule.counter_for(launch.stream());
  if (schedule.has_separate()) params.maps.q_separate = make_tensor_map(q, 1, device::kPartRows);
  if (schedule.has_packed()) {
    params.maps.q_packed = make_tensor_map(q, group_size, device::kPartRows / group_size);
  }
  params.maps.k_step = make_tensor_map(k, 1, keys);
  params.maps.v_step = make_tensor_map(v, 1, keys);
  params.maps.k_box = make_tensor_map(k, 1, common.lists.box_rows);
  params.maps.v_box = make_tensor_map(v, 1, common.lists.box_rows);
  int num_sms = 0;
  cuda_check(cudaDeviceGetAttribute(&num_sms, cudaDevAttrMultiProcessorCount, args.q.device.index),
             "attention");
  ForwardVariant variant = ForwardVariant::kPlain;
  if (changes_scores(common.scores)) variant = ForwardVariant::kChanges;
  if (skips_parts(schedule, head_dim_of(args))) variant = ForwardVariant::kSkips;
  const auto launcher = args.q.dtype == DType::kF16
                            ? hopper_launcher<DType::kF16>(head_dim_of(args), variant)
                            : hopper_launcher<DType::kBF16>(head_dim_of(args), variant);
  launcher({&params, common.lists.num_items, num_sms, launch.stream()});
}

device::RowSource row_source(const TensorView& view) {
  return {view.as<const std::uint16_t>(), row_strides(view), has_aligned_rows(view)};
}

void run_portable(const AttentionArgs& args, const device::ForwardParams& common,
                  const Launch& launch) {
  device::PortableForwardParams params{
      common, row_source(args.q), row_source(args.k), row_source(args.v), {}};
  if (args.page_table) {
    params.pages = {args.page_table.as<const std::int32_t>(), args.page_table.stride(0),
                    static_cast<std::int32_t>(args.k.size(1))};
  }
  const auto launcher = args.q.dtype == DType::kF16
                            ? portable_launcher<DType::kF16>(head_dim_of(args))
                            : portable_launcher<DType::kBF16>(head_dim_of(args));
  launcher({&params, common.lists.num_items, launch.stream()});
}

}  // namespace

bool cuda_attention_supports(const AttentionSpec& spec) {
  return (spec.q_dtype == DType::kF16 || spec.q_dtype == DType::kBF16) &&
         spec.kv_dtype == spec.q_dtype && spec.head_dim >= 1 && spec.head_dim <= kMaxHeadDim;
}

Tiling cuda_attention_tiling(const AttentionSpec& spec, Sweep sweep) {
  return gpu_tiling(static_cast<int>(spec.head_dim), sweep);
}

void cuda_attention_forward(const AttentionArgs& args, const Schedule& schedule, Stream stream) {
  check_devices(args);
  check_image_form(schedule, static_cast<int>(head_dim_of(args)));
  if (schedule.items.empty()) return;
  const Launch launch("attention", args.q.device, stream);
  const int capability = compute_capability(args.q.device.index);
  if (capability < 800) {
    throw Unsupported(concat("attention: the CUDA kernels need compute capability 8.0 (",
                             capability / 100, ".", capability % 100 / 10,
                             " here); run on the CPU"));
  }
  const auto on_device =
      device_schedule(schedule, static_cast<int>(head_dim_of(args)), args.q.device.index);
  const device::ForwardParams params = forward_params(args, *on_device);
  constexpr int kHopper = 900;
  if (capability == kHopper && hopper_takes(args, params, *on_device)) {
    run_hopper(args, params, *on_device, launch);
  } else {
    run_portable(args, params, launch);
  }
  launch.check_launched();
}

}  // namespace perpend
