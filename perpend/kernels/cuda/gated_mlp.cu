#include <algorithm>

#include "perpend/core/range.h"
#include "perpend/kernels/cuda/device/activation.cuh"
#include "perpend/kernels/cuda/device/launch_order.cuh"
#include "perpend/kernels/cuda/device/vector_io.cuh"
#include "perpend/kernels/cuda/element_dispatch.cuh"
#include "perpend/kernels/cuda/fused.h"
#include "perpend/kernels/cuda/launch_behind.cuh"
#include "perpend/kernels/fused_checks.h"

namespace perpend {
namespace {

constexpr std::int64_t kMostThreads = 256;
constexpr std::int64_t kMaxGridY = 65535;
constexpr int kWide = 8;  // values of a thread where rows are whole chunks

bool is_aligned(const TensorView& view) {
  return reinterpret_cast<std::uintptr_t>(view.data) % 16 == 0 && view.stride(0) % kWide == 0;
}

// Rows along x; columns along y, by chunks of `width` values, and within CTAs.
struct Shape {
  dim3 grid;
  unsigned threads;

  Shape(std::int64_t rows, std::int64_t dim, int width) {
    const std::int64_t chunks = ceil_div(dim, std::int64_t{width});
    const std::int64_t of_cta = std::min(kMostThreads, round_up(chunks, std::int64_t{32}));
    grid = dim3(static_cast<unsigned>(rows),
                static_cast<unsigned>(std::min(kMaxGridY, ceil_div(chunks, of_cta))));
    threads = static_cast<unsigned>(of_cta);
  }
};

template <int kCount, class Function>
__device__ void each_chunk(std::int64_t dim, Function function) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.y) * blockDim.x * kCount;
  const std::int64_t first =
      (static_cast<std::int64_t>(blockIdx.y) * blockDim.x + threadIdx.x) * kCount;
  for (std::int64_t i = first; i < dim; i += step) function(i);
}

template <class T>
struct GatedMlpParams {
  const T* gate_up;
  T* out;
  std::int64_t gate_up_stride, out_stride;
  std::int64_t dim;
};

template <class Activate, class T, int kCount>
__global__ void gated_mlp_kernel(GatedMlpParams<T> p) {
  device::let_next_launch_start();
  device::wait_for_launch_before();
  const T* gate = p.gate_up + blockIdx.x * p.gate_up_stride;  // [dim], up [dim] after it
  T* to = p.out + blockIdx.x * p.out_stride;                  // [dim]
  const std::int64_t dim = p.dim;
  each_chunk<kCount>(dim, [&](std::int64_t i) {
    device::Values<kCount> g = device::load_values<kCount>(gate + i);
    const device::Values<kCount> u = device::load_values<kCount>(gate + dim + i);
#pragma unroll
    for (int j = 0; j < kCount; ++j) g.v[j] = Activate{}(g.v[j]) * u.v[j];
    device::store_values(to + i, g);
  });
}

template <class Activate>
void launch_gated_mlp(const GatedMlpArgs& args, const Launch& launch) {
  const std::int64_t dim = args.out.size(1);
  const bool wide = dim % kWide == 0 && is_aligned(args.gate_up) && is_aligned(args.out);
  const Shape shape(args.out.size(0), dim, wide ? kWide : 1);
  dispatch_element(args.out.dtype, [&]<class T>(Element<T>) {
    const auto kernel =
        wide ? gated_mlp_kernel<Activate, T, kWide> : gated_mlp_kernel<Activate, T, 1>;
    const GatedMlpParams<T> params{args.gate_up.as<const T>(), args.out.as<T>(),
                                   args.gate_up.stride(0), args.out.stride(0), dim};
    launch_behind(launch.behind(), kernel, {shape.grid, dim3(shape.threads)}, params);
  });
}

// With y = g sigmoid(g): dy/dg = sigmoid(g) (1 + g (1 - sigmoid(g))).
template <class T, int kCount>
__global__ void gated_mlp_backward_kernel(const T* gate_up, const T* d_out, T* d_gate_up,
                                          std::int64_t dim) {
  const T* gate = gate_up + blockIdx.x * 2 * dim;
  const T* given = d_out + blockIdx.x * dim;
  T* to = d_gate_up + blockIdx.x * 2 * dim;
  each_chunk<kCount>(dim, [&](std::int64_t i) {
    const device::Values<kCount> g = device::load_values<kCount>(gate + i);
    const device::Values<kCount> u = device::load_values<kCount>(gate + dim + i);
    const device::Values<kCount> d = device::load_values<kCount>(given + i);
    device::Values<kCount> d_gate;
    device::Values<kCount> d_up;
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      const float sigmoid = 1.0F / (1.0F + __expf(-g.v[j]));
      d_up.v[j] = d.v[j] * g.v[j] * sigmoid;
      d_gate.v[j] = d.v[j] * u.v[j] * sigmoid * (1.0F + g.v[j] * (1.0F - sigmoid));
    }
    device::store_values(to + i, d_gate);
    device::store_values(to + dim + i, d_up);
  });
}

}  // namespace

void cuda_gated_mlp(const GatedMlpArgs& args, Stream stream) {
  check_gated_mlp(args);
  if (num_elements(args.out.shape) == 0) return;
  const Launch launch("gated_mlp", args.out.device, stream);
  switch (args.activation) {
    case Activation::kSilu:
      return launch_gated_mlp<device::Silu>(args, launch);
    case Activation::kGelu:
      return launch_gated_mlp<device::Gelu>(args, launch);
    case Activation::kGeluTanh:
      return launch_gated_mlp<device::GeluTanh>(args, launch);
  }
}

void cuda_gated_mlp_backward(const GatedMlpGradArgs& args, Stream stream) {
  check_gated_mlp_grad(args);
  if (num_elements(args.d_out.shape) == 0) return;
  const std::int64_t dim = args.d_out.size(1);
  const bool wide = dim % kWide == 0 && is_aligned(args.gate_up) && is_aligned(args.d_out) &&
                    is_aligned(args.d_gate_up);
  const Shape shape(args.d_out.size(0), dim, wide ? kWide : 1);
  const Launch launch("gated_mlp backward", args.d_out.device, stream);
  dispatch_element(args.d_out.dtype, [&]<class T>(Element<T>) {
    const auto kernel =
        wide ? gated_mlp_backward_kernel<T, kWide> : gated_mlp_backward_kernel<T, 1>;
    kernel<<<shape.grid, shape.threads, 0, launch.stream()>>>(
        args.gate_up.as<const T>(), args.d_out.as<const T>(), args.d_gate_up.as<T>(), dim);
  });
  launch.check_launched();
}

}  // namespace perpend
