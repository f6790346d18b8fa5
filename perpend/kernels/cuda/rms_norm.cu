#include "perpend/kernels/cuda/device/block_reduce.cuh"
#include "perpend/kernels/cuda/fused.h"
#include "perpend/kernels/cuda/launch.h"
#include "perpend/kernels/fused_checks.h"

namespace perpend {
namespace {

constexpr int kThreads = 256;

struct RmsNormParams {
  float* x;
  const float* residual;
  const float* weight;
  float* out;
  std::int64_t x_stride, residual_stride, out_stride;
  std::int64_t dim;
  float epsilon;
};

// One CTA a row.
__global__ void rms_norm_kernel(RmsNormParams p) {
  __shared__ float shared[kThreads / device::kWarp];
  float* x = p.x + blockIdx.x * p.x_stride;        // [dim]
  float* out = p.out + blockIdx.x * p.out_stride;  // [dim]
  float squares = 0.0F;
  for (std::int64_t i = threadIdx.x; i < p.dim; i += kThreads) {
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
  for (std::int64_t i = threadIdx.x; i < p.dim; i += kThreads)
    out[i] = x[i] * inverse * p.weight[i];
}

}  // namespace

void cuda_rms_norm(const RmsNormArgs& args, Stream stream) {
  check_rms_norm(args);
  const std::int64_t rows = args.x.size(0);
  if (rows == 0) return;
  const Launch launch("rms_norm", args.x.device, stream);
  rms_norm_kernel<<<static_cast<unsigned>(rows), kThreads, 0, launch.stream()>>>(
      {args.x.as<float>(), args.residual ? args.residual.as<const float>() : nullptr,
       args.weight.as<const float>(), args.out.as<float>(), args.x.stride(0),
       args.residual ? args.residual.stride(0) : 0, args.out.stride(0), args.x.size(1),
       args.epsilon});
  launch.check_launched();
}

}  // namespace perpend
