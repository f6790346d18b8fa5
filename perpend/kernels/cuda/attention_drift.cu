#include "perpend/core/range.h"
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
                    args.k_pages.size(1) % kDriftKeys == 0 && in_chunks(args.k_pages.stride(0)) &&
                    in_chunks(args.k_pages.stride(1)) && in_chunks(args.k_pages.stride(2)) &&
                    reinterpret_cast<std::uintptr_t>(args.k_pages.data) % 16 == 0;
  if (fits) return;
  throw Unsupported(
      "attention_drift: a GPU takes f16 and bf16, queries and keys alike, a head_dim that is a "
      "multiple of 16 and at most 128, and pages of a multiple of 64 rows");
}

template <class Element, int kHeadDim>
void launch_drift(const device::DriftParams& params, const Launch& launch) {
  constexpr int kBytes = device::drift_shared_bytes<Element, kHeadDim>();
  const auto statistics = device::drift_statistics<Element, kHeadDim>;
  const auto weights = device::drift_weights<Element, kHeadDim>;
  constexpr int kThreads = device::kDriftThreads;
  const auto join = device::drift_join<kThreads>;
  const auto similarity = device::drift_similarity<kThreads>;
  for (const auto kernel : {statistics, weights}) {
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
               kWhat);
  }
  const auto ctas = [](std::int64_t count) { return static_cast<unsigned>(count); };
  const std::int64_t parts = std::int64_t{params.num_layers} * params.num_parts();
  const std::int64_t heads =
      std::int64_t{params.num_layers} * params.num_rows() * params.num_q_heads;
  statistics<<<ctas(parts * params.num_head_parts()), kThreads, kBytes, launch.stream()>>>(params);
  join<<<ctas(ceil_div(heads, std::int64_t{kThreads})), kThreads, 0, launch.stream()>>>(params);
  weights<<<ctas(parts), kThreads, kBytes, launch.stream()>>>(params);
  constexpr int kSumBytes = 4 * device::kDriftWarps;
  similarity<<<ctas(params.num_layers), kThreads, kSumBytes, launch.stream()>>>(params);
}

template <class Element>
void launch_drift(const device::DriftParams& params, const Launch& launch) {
  if (params.head_dim <= 64) return launch_drift<Element, 64>(params, launch);
  launch_drift<Element, 128>(params, launch);
}

}  // namespace

void cuda_attention_drift(const AttentionDriftArgs& args, Stream stream) {
  check_attention_drift(args);
  check_form(args);
  const Launch launch(kWhat, args.queries.device, stream);
  const device::DriftParams params = drift_params(args);
  if (args.queries.dtype == DType::kF16) {
    launch_drift<device::F16>(params, launch);
  } else {
    launch_drift<device::Bf16>(params, launch);
  }
  launch.check_launched();
}

}  // namespace perpend
