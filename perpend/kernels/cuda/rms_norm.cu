#include "perpend/core/range.h"
#include "perpend/kernels/cuda/device/block_reduce.cuh"
#include "perpend/kernels/cuda/device/launch_order.cuh"
#include "perpend/kernels/cuda/device/vector_io.cuh"
#include "perpend/kernels/cuda/element_dispatch.cuh"
#include "perpend/kernels/cuda/fused.h"
#include "perpend/kernels/cuda/launch_behind.cuh"
#include "perpend/kernels/fused_checks.h"

namespace perpend {
namespace {

constexpr std::int64_t kMostThreads = 512;  // with registers for what a thread holds
constexpr int kWide = 4;  // values that a thread loads at once where rows are whole chunks
constexpr int kHeld = 4;  // such chunks of a thread that stay in registers

template <class Out>
struct RmsNormParams {
  float* x;
  const float* residual;
  const float* weight;
  Out* out;
  std::int64_t x_stride, residual_stride, out_stride;
  std::int64_t dim;
  float epsilon;
  float* kept;  // [any, dim] or null
  const std::int64_t* places;
  std::int64_t kept_stride;
};

// One CTA a row.
template <class Out, int kCount>
__global__ void __launch_bounds__(kMostThreads) rms_norm_kernel(RmsNormParams<Out> p) {
  device::let_next_launch_start();
  const std::int64_t row = blockIdx.x;
  __shared__ float shared[kMostThreads / device::kWarp];
  using Values = device::Values<kCount>;
  const std::int64_t first = static_cast<std::int64_t>(threadIdx.x) * kCount;
  const std::int64_t step = static_cast<std::int64_t>(blockDim.x) * kCount;
  Values weight[kHeld];
#pragma unroll
  for (int c = 0; c < kHeld; ++c) {
    if (first + c * step < p.dim)
      weight[c] = device::load_values<kCount>(p.weight + first + c * step);
  }
  device::wait_for_launch_before();

  float* x = p.x + row * p.x_stride;      // [dim]
  Out* out = p.out + row * p.out_stride;  // [dim]
  float* kept = p.kept != nullptr ? p.kept + p.places[row] * p.kept_stride : nullptr;
  float squares = 0.0F;
  const auto take = [&](std::int64_t i) {
    Values value = device::load_values<kCount>(x + i);
    if (p.residual != nullptr) {
      const Values more = device::load_values<kCount>(p.residual + row * p.residual_stride + i);
#pragma unroll
      for (int j = 0; j < kCount; ++j) value.v[j] += more.v[j];
      device::store_values(x + i, value);
    }
    if (kept != nullptr) device::store_values(kept + i, value);
    return value;
  };
  const auto add = [&](const Values& value) {
#pragma unroll
    for (int j = 0; j < kCount; ++j) squares = fmaf(value.v[j], value.v[j], squares);
  };
  Values held[kHeld];
#pragma unroll
  for (int c = 0; c < kHeld; ++c) {
    if (first + c * step < p.dim) held[c] = take(first + c * step);
  }
#pragma unroll
  for (int c = 0; c < kHeld; ++c) {
    if (first + c * step < p.dim) add(held[c]);
  }
  for (std::int64_t i = first + kHeld * step; i < p.dim; i += step) add(take(i));
  squares = device::block_reduce(squares, 0.0F, shared, [](float a, float b) { return a + b; });
  const float inverse = 1.0F / sqrtf(squares / static_cast<float>(p.dim) + p.epsilon);
  const auto put = [&](std::int64_t i, Values value, const Values& by) {
#pragma unroll
    for (int j = 0; j < kCount; ++j) value.v[j] *= inverse * by.v[j];
    device::store_values(out + i, value);
  };
#pragma unroll
  for (int c = 0; c < kHeld; ++c) {
    if (first + c * step < p.dim) put(first + c * step, held[c], weight[c]);
  }
  // Each thread reads back only what it wrote itself.
  for (std::int64_t i = first + kHeld * step; i < p.dim; i += step) {
    put(i, device::load_values<kCount>(x + i), device::load_values<kCount>(p.weight + i));
  }
}

bool is_aligned(const TensorView& view) {
  return reinterpret_cast<std::uintptr_t>(view.data) % 16 == 0 &&
         (view.num_axes() < 2 || view.stride(0) % kWide == 0);
}

template <class Out>
void launch_rms_norm(const RmsNormArgs& args, const Launch& launch) {
  const std::int64_t dim = args.x.size(1);
  const bool wide = dim % kWide == 0 && is_aligned(args.x) && is_aligned(args.residual) &&
                    is_aligned(args.weight) && is_aligned(args.out) && is_aligned(args.kept);
  const std::int64_t chunks = std::max<std::int64_t>(1, wide ? dim / kWide : dim);
  const std::int64_t threads = std::min(
      kMostThreads, round_up(ceil_div(chunks, std::int64_t{kHeld}), std::int64_t{device::kWarp}));
  const RmsNormParams<Out> params{args.x.as<float>(),
                                  args.residual ? args.residual.as<const float>() : nullptr,
                                  args.weight.as<const float>(),
                                  args.out.as<Out>(),
                                  args.x.stride(0),
                                  args.residual ? args.residual.stride(0) : 0,
                                  args.out.stride(0),
                                  dim,
                                  args.epsilon,
                                  args.kept ? args.kept.as<float>() : nullptr,
                                  args.kept ? args.places.as<const std::int64_t>() : nullptr,
                                  args.kept ? args.kept.stride(0) : 0};
  launch_behind(launch.behind(), wide ? rms_norm_kernel<Out, kWide> : rms_norm_kernel<Out, 1>,
                {dim3(static_cast<unsigned>(args.x.size(0))), dim3(static_cast<unsigned>(threads))},
                params);
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
