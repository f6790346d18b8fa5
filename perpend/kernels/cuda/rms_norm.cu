#include "perpend/core/range.h"
#include "perpend/kernels/cuda/device/block_reduce.cuh"
#include "perpend/kernels/cuda/element_dispatch.cuh"
#include "perpend/kernels/cuda/fused.h"
#include "perpend/kernels/cuda/launch.h"
#include "perpend/kernels/fused_checks.h"

namespace perpend {
namespace {

constexpr std::int64_t kMostThreads = 1024;
constexpr std::int64_t kValuesOfThread = 4;

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
template <class Out>
__global__ void rms_norm_kernel(RmsNormParams<Out> p) {
  __shared__ float shared[kMostThreads / device::kWarp];
  float* x = p.x + blockIdx.x * p.x_stride;      // [dim]
  Out* out = p.out + blockIdx.x * p.out_stride;  // [dim]
  float squares = 0.0F;
  for (std::int64_t i = threadIdx.x; i < p.dim; i += blockDim.x) {
    float value = x[i];
    if (p.residual != nullptr) {
      value += p.residual[blockIdx.x * p.residual_stride + i];
      x[i] = value;
    }
    squares = fmaf(value, value, squares);
  }
  squares = device::block_reduce(squares, 0.0F, shared, [](float a, float b) { return a + b; });
  const float inverse = 1.0F / sqrtf(squares / static_cast<float>(p.dim) + p.epsilon);
  // Each thread reads back only what it wrote itself.
  for (std::int64_t i = threadIdx.x; i < p.dim; i += blockDim.x) {
    out[i] = static_cast<Out>(x[i] * inverse * p.weight[i]);
  }
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
  rms_norm_kernel<<<static_cast<unsigned>(args.x.size(0)), static_cast<unsigned>(threads), 0,
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
