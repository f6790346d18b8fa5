#include "perpend/kernels/cuda/device/activation.cuh"
#include "perpend/kernels/cuda/element_dispatch.cuh"
#include "perpend/kernels/cuda/fused.h"
#include "perpend/kernels/cuda/launch.h"
#include "perpend/kernels/fused_checks.h"

namespace perpend {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMaxGridY = 65535;

// CTAs: rows across x, columns across y.
template <class Activate, class T>
__global__ void gated_mlp_kernel(const T* gate_up, std::int64_t gate_up_stride, T* out,
                                 std::int64_t out_stride, std::int64_t dim) {
  const T* gate = gate_up + blockIdx.x * gate_up_stride;  // [dim], up [dim] after it
  T* to = out + blockIdx.x * out_stride;                  // [dim]
  const std::int64_t step = static_cast<std::int64_t>(gridDim.y) * kThreads;
  for (std::int64_t i = blockIdx.y * kThreads + threadIdx.x; i < dim; i += step) {
    to[i] =
        static_cast<T>(Activate{}(static_cast<float>(gate[i])) * static_cast<float>(gate[dim + i]));
  }
}

template <class Activate>
void launch_gated_mlp(const GatedMlpArgs& args, const Launch& launch) {
  const std::int64_t dim = args.out.size(1);
  const dim3 grid(static_cast<unsigned>(args.out.size(0)),
                  static_cast<unsigned>(std::min(kMaxGridY, (dim + kThreads - 1) / kThreads)));
  dispatch_element(args.out.dtype, [&]<class T>(Element<T>) {
    gated_mlp_kernel<Activate, T>
        <<<grid, kThreads, 0, launch.stream()>>>(args.gate_up.as<const T>(), args.gate_up.stride(0),
                                                 args.out.as<T>(), args.out.stride(0), dim);
  });
  launch.check_launched();
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

}  // namespace perpend
