#include "perpend/core/range.h"
#include "perpend/kernels/cuda/device/block_reduce.cuh"
#include "perpend/kernels/cuda/device/vector_io.cuh"
#include "perpend/kernels/cuda/element_dispatch.cuh"
#include "perpend/kernels/cuda/fused.h"
#include "perpend/kernels/cuda/launch.h"
#include "perpend/kernels/fused_checks.h"

namespace perpend {
namespace {

constexpr std::int64_t kMostThreads = 256;
constexpr std::int64_t kValuesOfThread = 16;
constexpr int kWide = 4;  // values that a thread loads at once where rows are whole chunks

template <class Out>
struct RmsNormParams {
  float* x;
  const float* residual;
  const float* weight;
  Out* out;
  std::int64_t x_stride, residual_stride, out_stride;
  std::int64_t dim;
  float epsilon;
};

// One CTA a row.
template <class Out, int kCount>
__global__ void rms_norm_kernel(RmsNormParams<Out> p) {
  __shared__ float shared[kMostThreads / device::kWarp];
  float* x = p.x + blockIdx.x * p.x_stride;      // [dim]
  Out* out = p.out + blockIdx.x * p.out_stride;  // [dim]
  const std::int64_t first = static_cast<std::int64_t>(threadIdx.x) * kCount;
  const std::int64_t step = static_cast<std::int64_t>(blockDim.x) * kCount;
  float squares = 0.0F;
  for (std::int64_t i = first; i < p.dim; i += step) {
    auto value = device::load_values<kCount>(x + i);
    if (p.residual != nullptr) {
      const auto more =
          device::load_values<kCount>(p.residual + blockIdx.x * p.residual_stride + i);
#pragma unroll
      for (int j = 0; j < kCount; ++j) value.v[j] += more.v[j];
      device::store_values(x + i, value);
    }
#pragma unroll
    for (int j = 0; j < kCount; ++j) squares = fmaf(value.v[j], value.v[j], squares);
  }
  squares = device::block_reduce(squares, 0.0F, shared, [](float a, float b) { return a + b; });
  const float inverse = 1.0F / sqrtf(squares / static_cast<float>(p.dim) + p.epsilon);
  // Each thread reads back only what it wrote itself.
  for (std::int64_t i = first; i < p.dim; i += step) {
    auto value = device::load_values<kCount>(x + i);
    const auto weight = device::load_values<kCount>(p.weight + i);
#pragma unroll
    for (int j = 0; j < kCount; ++j) value.v[j] *= inverse * weight.v[j];
    device::store_values(out + i, value);
  }
}

bool is_aligned(const TensorView& view) {
  return reinterpret_cast<std::uintptr_t>(view.data) % 16 == 0 &&
         (view.num_axes() < 2 || view.stride(0) % kWide == 0);
}

template <class Out>
void launch_rms_norm(const RmsNormArgs& args, const Launch& launch) {
  const std::int64_t dim = args.x.size(1);
  const std::int64_t threads =
      std::min(kMostThreads, round_up(std::max<std::int64_t>(1, ceil_div(dim, kValuesOfThread)),
                                      std::int64_t{device::kWarp}));
  const RmsNormParams<Out> params{args.x.as<float>(),
                                  args.residual ? args.residual.as<const float>() : nullptr,
                                  args.weight.as<const float>(),
                                  args.out.as<Out>(),
                                  args.x.stride(0),
                                  args.residual ? args.residual.stride(0) : 0,
                                  args.out.stride(0),
                                  dim,
                                  args.epsilon};
  const bool wide = dim % kWide == 0 && is_aligned(args.x) && is_aligned(args.residual) &&
                    is_aligned(args.weight) && is_aligned(args.out);
  const auto kernel = wide ? rms_norm_kernel<Out, kWide> : rms_norm_kernel<Out, 1>;
  kernel<<<static_cast<unsigned>(args.x.size(0)), static_cast<unsigned>(threads), 0,
           launch.stream()>>>(params);
  launch.check_launched();
}

}  // namespace

void cuda_rms_norm(const RmsNormArgs& args, Stream stream) {
  check_rms_norm(args);
  if (args.x.size(0) == 0) return;
  const Launch launch("rms_norm", args.x.device, stream);
  dispatch_element(args.out.dtype,
                   [&]<class Out>(Element<Out>) { launch_rms_norm<Out>(args, launch); });
}

}  // namespace perpend
