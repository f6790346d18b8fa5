#include "perpend/core/demand.h"
#include "perpend/core/range.h"
#include "perpend/kernels/cuda/device/launch_order.cuh"
#include "perpend/kernels/cuda/device/shuffle.cuh"
#include "perpend/kernels/cuda/element_dispatch.cuh"
#include "perpend/kernels/cuda/fused.h"
#include "perpend/kernels/cuda/launch_behind.cuh"

namespace perpend {
namespace {

constexpr int kWarp = 32;
constexpr int kWarps = 4;       // of a CTA
constexpr int kChunk = 8;       // values that a lane loads at once
constexpr int kOutputs = 4;     // of a warp
constexpr int kStepsAhead = 2;  // whose weights are on the way
// With fewer outputs the warps of a CTA share theirs, so that all multiprocessors are busy.
constexpr std::int64_t kManyOutputs = 16384;

template <class T, class Out>
struct ProductParams {
  const T* x;       // [rows, in_features]
  const T* weight;  // [out_features, in_features]
  const T* bias;    // [out_features] or null
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
  return {*reinterpret_cast<const uint4*>(from)};
}

// Sums of one warp: kOutputs outputs of all rows. A lane takes every 32nd chunk of the inputs of
// the warp, of which there are kParts that take steps in turns; a step is kOutputs * 512 bytes of
// weights.
template <class T, class Out, int kRows, int kParts>
class ProductWarp {
 public:
  // Outputs beyond the last are computed as the last.
  __device__ __forceinline__ ProductWarp(const ProductParams<T, Out>& params, int first, int part)
      : params_(params), next_((part * kWarp + static_cast<int>(threadIdx.x) % kWarp) * kChunk) {
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
      weight_[o] = params.weight + min(first + o, params.out_features - 1) * params.weight_stride;
    }
    // What needs nothing of the launch before.
#pragma unroll
    for (int ahead = 0; ahead < kStepsAhead; ++ahead) load_weights(ahead, next_ + ahead * kStep);
  }

  __device__ __forceinline__ void run(float (&sum)[kRows][kOutputs]) {
    for (; next_ < params_.in_features; next_ += kStepsAhead * kStep) {
#pragma unroll
      for (int ahead = 0; ahead < kStepsAhead; ++ahead) {
        const int column = next_ + ahead * kStep;
        if (column >= params_.in_features) break;
        Chunk<T> now[kOutputs];
#pragma unroll
        for (int o = 0; o < kOutputs; ++o) now[o] = weights_[ahead][o];
        load_weights(ahead, column + kStepsAhead * kStep);
        add(now, column, sum);
      }
    }
  }

 private:
  static constexpr int kStep = kParts * kWarp * kChunk;

  __device__ __forceinline__ void load_weights(int ahead, int column) {
    if (column >= params_.in_features) return;
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) weights_[ahead][o] = load_once(weight_[o] + column);
  }

  __device__ __forceinline__ void add(const Chunk<T> (&w)[kOutputs], int column,
                                      float (&sum)[kRows][kOutputs]) const {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const Chunk<T> x = load(params_.x + min(r, params_.num_rows - 1) * params_.x_stride + column);
#pragma unroll
      for (int o = 0; o < kOutputs; ++o) {
#pragma unroll
        for (int c = 0; c < kChunk; ++c) sum[r][o] = fmaf(w[o].value(c), x.value(c), sum[r][o]);
      }
    }
  }

  const ProductParams<T, Out>& params_;
  const T* weight_[kOutputs];
  Chunk<T> weights_[kStepsAhead][kOutputs];
  int next_;  // column
};

template <class T, class Out, int kRows, int kParts>
__global__ void __launch_bounds__(kWarps* kWarp)
    few_rows_product_kernel(const __grid_constant__ ProductParams<T, Out> p) {
  device::let_next_launch_start();
  __shared__ float parts[kWarps][kRows][kOutputs];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int first = (static_cast<int>(blockIdx.x) * (kWarps / kParts) + warp / kParts) * kOutputs;
  ProductWarp<T, Out, kRows, kParts> product(p, first, warp % kParts);
  device::wait_for_launch_before();
  float sum[kRows][kOutputs] = {};
  product.run(sum);
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
      float total = sum[r][o];
      for (int step = kWarp / 2; step > 0; step /= 2) total += device::shuffle_down(total, step);
      if (lane == 0) parts[warp][r][o] = total;
    }
  }
  __syncthreads();
  // The first of the warps that share outputs adds up what they have, a lane each.
  const int r = lane / kOutputs;
  const int output = first + lane % kOutputs;
  if (warp % kParts != 0 || r >= p.num_rows || output >= p.out_features) return;
  float total = parts[warp][r][lane % kOutputs];
#pragma unroll
  for (int part = 1; part < kParts; ++part) total += parts[warp + part][r][lane % kOutputs];
  if (p.bias != nullptr) total += static_cast<float>(p.bias[output]);
  Out* out = p.out + r * p.out_stride + output;
  if (p.accumulate) total += static_cast<float>(*out);
  *out = static_cast<Out>(total);
}

template <class T, class Out, int kRows, int kParts>
void launch_product(const ProductParams<T, Out>& params, const Launch& launch) {
  const std::int64_t ctas = ceil_div(params.out_features, kWarps / kParts * kOutputs);
  launch_behind(launch.behind(), few_rows_product_kernel<T, Out, kRows, kParts>,
                {dim3(static_cast<unsigned>(ctas)), dim3(kWarps * kWarp)}, params);
}

template <class T, class Out, int kRows>
void launch_product(const ProductParams<T, Out>& params, const Launch& launch) {
  if (params.out_features >= kManyOutputs) {
    launch_product<T, Out, kRows, 1>(params, launch);
  } else {
    launch_product<T, Out, kRows, kWarps>(params, launch);
  }
}

template <class T, class Out>
void launch_product(const FewRowsProductArgs& args, const Launch& launch) {
  const ProductParams<T, Out> params{args.x.as<const T>(),
                                     args.weight.as<const T>(),
                                     args.bias ? args.bias.as<const T>() : nullptr,
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
  demand(args.weight.device == args.x.device && args.out.device == args.x.device &&
             (!args.bias || args.bias.device == args.x.device),
         "few_rows_product: devices of the operands differ");
  if (num_elements(args.out.shape) == 0) return;
  const Launch launch("few_rows_product", args.x.device, stream);
  if (args.x.dtype == DType::kF16) {
    launch_product<__half>(args, launch);
  } else {
    launch_product<__nv_bfloat16>(args, launch);
  }
}

}  // namespace perpend
