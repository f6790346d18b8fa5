#include "perpend/kernels/cuda/attention_operands.h"
#include "perpend/kernels/cuda/cuda_check.h"
#include "perpend/kernels/cuda/device/attention_drift.cuh"
#include "perpend/kernels/cuda/drift_params.h"
#include "perpend/kernels/cuda/fused.h"
#include "perpend/kernels/cuda/launch.h"
#include "perpend/kernels/fused_checks.h"

namespace perpend {
namespace {

constexpr const char* kWhat = "attention_drift";

void check_form(const AttentionDriftArgs& args) {
  const DType dtype = args.queries.dtype;
  const std::int64_t head_dim = args.queries.size(3);
  const auto in_chunks = [](std::int64_t stride) { return stride % 8 == 0; };
  const bool fits = (dtype == DType::kF16 || dtype == DType::kBF16) &&
                    args.k_pages.dtype == dtype && head_dim % 16 == 0 && head_dim <= 128 &&
                    args.k_pages.size(1) % device::DriftKeys::kCount == 0 &&
                    in_chunks(args.k_pages.stride(0)) && in_chunks(args.k_pages.stride(1)) &&
                    in_chunks(args.k_pages.stride(2)) &&
                    reinterpret_cast<std::uintptr_t>(args.k_pages.data) % 16 == 0;
  if (fits) return;
  throw Unsupported(
      "attention_drift: a GPU takes f16 and bf16, queries and keys alike, a head_dim that is a "
      "multiple of 16 and at most 128, and pages of a multiple of 64 rows");
}

using Kernel = void (*)(device::DriftParams);

struct Grid {
  std::int64_t ctas;
  int threads;
  int shared_bytes;
};

// `is_behind`: may be made ready while the launch before still runs.
void launch_kernel(Kernel kernel, const Grid& grid, bool is_behind,
                   const device::DriftParams& params, const Launch& launch) {
  cuda_check(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, grid.shared_bytes),
      kWhat);
  cudaLaunchAttribute overlaps{};
  overlaps.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlaps.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(grid.ctas));
  config.blockDim = dim3(static_cast<unsigned>(grid.threads));
  config.dynamicSmemBytes = static_cast<std::size_t>(grid.shared_bytes);
  config.stream = launch.stream();
  config.attrs = &overlaps;
  config.numAttrs = is_behind ? 1 : 0;
  cuda_check(cudaLaunchKernelEx(&config, kernel, params), kWhat);
}

template <class Element, int kHeadDim>
void launch_drift(const device::DriftParams& params, bool is_hopper, const Launch& launch) {
  const DriftSplit& split = params.split;
  const std::int64_t layers = split.num_layers;
  const std::int64_t groups = split.num_groups();
  const std::int64_t tiles = split.num_tiles();
  launch_kernel(device::drift_statistics<Element, kHeadDim>,
                {layers * split.num_q_heads * split.num_all_parts() * groups, device::kDriftThreads,
                 device::DriftStatistics<Element, kHeadDim>::kSharedBytes},
                false, params, launch);
  launch_kernel(device::drift_weights<Element, kHeadDim>,
                {layers * split.num_head_groups() * tiles * groups, device::kDriftThreads,
                 device::DriftWeights<Element, kHeadDim>::kSharedBytes},
                is_hopper, params, launch);
  launch_kernel(device::drift_means<device::kDriftMeansThreads>,
                {layers * tiles, device::kDriftMeansThreads, device::DriftMeans::kSharedBytes},
                is_hopper, params, launch);
}

template <class Element>
void launch_drift(const device::DriftParams& params, bool is_hopper, const Launch& launch) {
  if (params.head_dim <= 64) return launch_drift<Element, 64>(params, is_hopper, launch);
  launch_drift<Element, 128>(params, is_hopper, launch);
}

}  // namespace

void cuda_attention_drift(const AttentionDriftArgs& args, Stream stream) {
  check_attention_drift(args);
  check_form(args);
  const Launch launch(kWhat, args.queries.device, stream);
  const device::DriftParams params = drift_params(args);
  const bool is_hopper = check_is_hopper(args.queries.device.index);
  if (args.queries.dtype == DType::kF16) {
    launch_drift<device::F16>(params, is_hopper, launch);
  } else {
    launch_drift<device::Bf16>(params, is_hopper, launch);
  }
  launch.check_launched();
}

}  // namespace perpend
