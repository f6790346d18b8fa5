#include "perpend/core/demand.h"
#include "perpend/core/range.h"
#include "perpend/kernels/cuda/device/shuffle.cuh"
#include "perpend/kernels/cuda/element_dispatch.cuh"
#include "perpend/kernels/cuda/fused.h"
#include "perpend/kernels/cuda/launch.h"

namespace perpend {
namespace {

constexpr int kWarp = 32;
constexpr int kWarps = 4;  // of a CTA
constexpr int kChunk = 8;  // values that a lane loads at once
constexpr std::int64_t kManyOutputs = 2048;

template <class T, class Out>
struct ProductParams {
  const T* x;       // [rows, in_features]
  const T* weight;  // [out_features, in_features]
  Out* out;         // [rows, out_features]
  std::int64_t x_stride, weight_stride, out_stride;
  int num_rows, in_features, out_features;
  bool accumulate;
};

template <class T>
struct Chunk {
  uint4 bits;

  __device__ float value(int i) const {
    return static_cast<float>(reinterpret_cast<const T*>(&bits)[i]);
  }
};

// Weights pass through once: they must not push out what is read again.
template <class T>
__device__ Chunk<T> load_once(const T* from) {
  return {__ldcs(reinterpret_cast<const uint4*>(from))};
}
template <class T>
__device__ Chunk<T> load(const T* from) {
  return {__ldg(reinterpret_cast<const uint4*>(from))};
}

// A warp computes kOutputs outputs of all rows: a lane takes every 32nd chunk of the inputs, so
// that a warp has kOutputs * 512 bytes of weights on the way in each step, and the compiler unrolls
// two.
template <class T, class Out, int kRows, int kOutputs>
__global__ void __launch_bounds__(kWarps* kWarp) few_rows_product_kernel(ProductParams<T, Out> p) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / kWarp;
  const int first = warp * kOutputs;
  if (first >= p.out_features) return;
  // Outputs beyond the last are computed as the last, and not stored.
  const T* weight[kOutputs];
#pragma unroll
  for (int o = 0; o < kOutputs; ++o) {
    weight[o] = p.weight + min(first + o, p.out_features - 1) * p.weight_stride;
  }
  float sum[kRows][kOutputs] = {};
#pragma unroll 2
  for (int i = lane * kChunk; i < p.in_features; i += kWarp * kChunk) {
    Chunk<T> w[kOutputs];
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) w[o] = load_once(weight[o] + i);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const Chunk<T> x = load(p.x + min(r, p.num_rows - 1) * p.x_stride + i);
#pragma unroll
      for (int o = 0; o < kOutputs; ++o) {
#pragma unroll
        for (int c = 0; c < kChunk; ++c) {
          sum[r][o] = fmaf(w[o].value(c), x.value(c), sum[r][o]);
        }
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
      float total = sum[r][o];
      for (int step = kWarp / 2; step > 0; step /= 2) total += device::shuffle_down(total, step);
      if (lane != 0 || r >= p.num_rows || first + o >= p.out_features) continue;
      Out* out = p.out + r * p.out_stride + first + o;
      if (p.accumulate) total += static_cast<float>(*out);
      *out = static_cast<Out>(total);
    }
  }
}

template <class T, class Out, int kRows, int kOutputs>
void launch_product(const ProductParams<T, Out>& params, const Launch& launch) {
  const std::int64_t warps = ceil_div(params.out_features, kOutputs);
  few_rows_product_kernel<T, Out, kRows, kOutputs>
      <<<static_cast<unsigned>(ceil_div(warps, kWarps)), kWarps * kWarp, 0, launch.stream()>>>(
          params);
}

template <class T, class Out, int kRows>
void launch_product(const ProductParams<T, Out>& params, const Launch& launch) {
  // Where outputs are few, more warps with less each keep all multiprocessors busy.
  if (params.out_features >= kManyOutputs) {
    launch_product<T, Out, kRows, 4>(params, launch);
  } else {
    launch_product<T, Out, kRows, 1>(params, launch);
  }
}

template <class T, class Out>
void launch_product(const FewRowsProductArgs& args, const Launch& launch) {
  const ProductParams<T, Out> params{args.x.as<const T>(),
                                     args.weight.as<const T>(),
                                     args.out.as<Out>(),
                                     args.x.stride(0),
                                     args.weight.stride(0),
                                     args.out.stride(0),
                                     static_cast<int>(args.x.size(0)),
                                     static_cast<int>(args.x.size(1)),
                                     static_cast<int>(args.out.size(1)),
                                     args.accumulate};
  if (params.num_rows == 1) return launch_product<T, Out, 1>(params, launch);
  if (params.num_rows == 2) return launch_product<T, Out, 2>(params, launch);
  return launch_product<T, Out, 4>(params, launch);
}

template <class T>
void launch_product(const FewRowsProductArgs& args, const Launch& launch) {
  if (args.out.dtype == DType::kF32) return launch_product<T, float>(args, launch);
  launch_product<T, T>(args, launch);
}

}  // namespace

void cuda_few_rows_product(const FewRowsProductArgs& args, Stream stream) {
  demand(args.fits(), "few_rows_product: x ", args.x, ", weight ", args.weight, " and out ",
         args.out, " do not fit");
  demand(args.weight.device == args.x.device && args.out.device == args.x.device,
         "few_rows_product: devices of the operands differ");
  if (num_elements(args.out.shape) == 0) return;
  const Launch launch("few_rows_product", args.x.device, stream);
  if (args.x.dtype == DType::kF16) {
    launch_product<__half>(args, launch);
  } else {
    launch_product<__nv_bfloat16>(args, launch);
  }
  launch.check_launched();
}

}  // namespace perpend
