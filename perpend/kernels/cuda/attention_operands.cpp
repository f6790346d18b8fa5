#include "perpend/kernels/cuda/attention_operands.h"

#include <cmath>

#include <cuda_runtime_api.h>

#include "perpend/core/demand.h"
#include "perpend/kernels/cuda/cuda_check.h"

namespace perpend {
namespace {

constexpr double kLog2E = 1.4426950408889634;

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  cuda_check(cudaDeviceGetAttribute(&value, which, device), "attention");
  return value;
}

}  // namespace

std::int64_t head_dim_of(const AttentionArgs& args) { return args.q.size(args.q.num_axes() - 1); }

float scale_of(const AttentionArgs& args) {
  if (args.scale != 0) return args.scale;
  return static_cast<float>(1 / std::sqrt(static_cast<double>(head_dim_of(args))));
}

device::Scores scores_of(const AttentionArgs& args) {
  const TensorView& slopes = args.score.alibi_slopes;
  return {static_cast<float>(static_cast<double>(scale_of(args)) * kLog2E), args.score.soft_cap,
          slopes ? slopes.as<const float>() : nullptr};
}

bool changes_scores(const device::Scores& scores) {
  // A negative factor would turn the largest score into the least.
  return scores.soft_cap != 0 || scores.alibi_slopes != nullptr || scores.factor < 0;
}

device::RowStrides row_strides(const TensorView& view) {
  if (view.num_axes() == 3) return {0, view.stride(0), view.stride(1)};
  return {view.stride(0), view.stride(1), view.stride(2)};
}

device::RowStrides lse_strides(const TensorView& view) {
  if (!view) return {};
  if (view.num_axes() == 2) return {0, view.stride(1), view.stride(0)};
  return {view.stride(0), view.stride(2), view.stride(1)};
}

bool has_aligned_rows(const TensorView& view) {
  constexpr std::int64_t kAlignment = 16;
  const auto is_multiple = [&](std::int64_t elements) {
    return elements * static_cast<std::int64_t>(size_of(view.dtype)) % kAlignment == 0;
  };
  bool aligned = reinterpret_cast<std::uintptr_t>(view.data) % kAlignment == 0 &&
                 is_multiple(view.size(view.num_axes() - 1));
  for (int axis = 0; axis + 1 < view.num_axes(); ++axis) {
    aligned = aligned && (view.size(axis) == 1 || is_multiple(view.stride(axis)));
  }
  return aligned;
}

device::RowSource row_source(const TensorView& view) {
  return {view.as<const std::uint16_t>(), row_strides(view), has_aligned_rows(view)};
}

device::PageTable page_table(const AttentionArgs& args) {
  if (!args.page_table) return {};
  return {args.page_table.as<const std::int32_t>(), args.page_table.stride(0),
          static_cast<std::int32_t>(args.k.size(1))};
}

device::ForwardParams forward_params(const AttentionArgs& args, const device::Lists& lists) {
  return {.lists = lists,
          .outputs = {args.o.data, args.lse ? args.lse.as<float>() : nullptr, row_strides(args.o),
                      lse_strides(args.lse), static_cast<std::int32_t>(head_dim_of(args)),
                      args.o.dtype == DType::kF32, has_aligned_rows(args.o)},
          .scores = scores_of(args),
          .q_is_ragged = static_cast<bool>(args.q_indptr),
          .kv_is_ragged = static_cast<bool>(args.kv_indptr)};
}

void check_slopes(const TensorView& slopes) {
  demand(!slopes || slopes.is_contiguous(),
         "attention: alibi_slopes must be dense on a GPU, found ", slopes);
}

bool check_is_hopper(int device) {
  const int major = attribute(cudaDevAttrComputeCapabilityMajor, device);
  const int minor = attribute(cudaDevAttrComputeCapabilityMinor, device);
  if (major < 8) {
    throw Unsupported(concat("attention: the CUDA kernels need compute capability 8.0 (", major,
                             ".", minor, " here); run on the CPU"));
  }
  return major == 9 && minor == 0;
}

int num_multiprocessors(int device) { return attribute(cudaDevAttrMultiProcessorCount, device); }
int l2_bytes(int device) { return attribute(cudaDevAttrL2CacheSize, device); }

}  // namespace perpend
